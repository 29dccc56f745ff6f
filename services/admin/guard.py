"""Who may use which route: decided on every handler, denied unless the handler says otherwise.

A handler without a word needs the master key. `opt={"access": "own_key"}` admits virtual keys
too, to what is their own; `analyst` those that may ask the ledger, to the rows they may see;
`opt={"access": "public"}` asks for nothing.
"""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from schemas.errors import Forbidden
from services.admin.analysts import team_seen_by
from services.admin.credentials import find_candidates
from services.admin.origin import note_origin
from services.admin.state import AdminState, Caller, now_us

__all__ = ["caller_of", "require_access"]


async def require_access(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> None:
    """Admit the request or raise Unauthenticated, Forbidden, RateLimited or Unavailable."""
    access = handler.opt.get("access", "master")
    if access == "public":
        return
    admin: AdminState = connection.app.state.admin
    headers = connection.scope["headers"]
    client = connection.scope.get("client")
    address = admin.proved_address(headers) or (client[0] if client else "unknown")
    caller = await admin.identify(find_candidates(headers), address)
    if access == "analyst":
        team_seen_by(caller, now_us())
        for owner in admin.snapshot.owners_of(caller.key) if caller.key is not None else ():
            if owner.blocked or owner.deleted:
                raise Forbidden("the team or the user of this virtual key is blocked or deleted")
    elif caller.key is not None and access != "own_key":
        raise Forbidden(
            f"this route needs the master key; the request was made with the virtual key "
            f"{caller.key.key_alias or caller.key.key_name}"
        )
    connection.state.caller = caller
    scope = connection.scope
    request_id = scope.get("state", {}).get("request_id", "")
    method = str(scope.get("method", ""))
    note_origin(address, method, scope["path_template"], request_id)


def caller_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Caller:
    """Return who was admitted by the guard."""
    caller: Caller = connection.state.caller
    return caller
