"""Who may use which route: decided on every handler, denied unless the handler says otherwise.

A handler says with `opt={"access": …}` what it asks for; `services.admin.access` tells the kinds.
Without a word it is for admins alone.
"""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from schemas.errors import Forbidden
from services.admin.access import Access, is_admitted, refusal_of
from services.admin.analysts import team_seen_by
from services.admin.credentials import find_candidates
from services.admin.key_types import refuse_other_routes
from services.admin.origin import note_origin
from services.admin.preconditions import note_condition
from services.admin.principal import Principal
from services.admin.state import PROVED_CALLER, AdminState, now_us

__all__ = ["caller_of", "require_access"]


async def require_access(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> None:
    """Admit the request or raise Unauthenticated, Forbidden, RateLimited, Unavailable, BadRequest.

    What `If-Match` names may have been read from another admin service: it is waited for.
    """
    access: Access = handler.opt.get("access", "admin")
    if access == "public":
        return
    admin: AdminState = connection.app.state.admin
    headers = connection.scope["headers"]
    client = connection.scope.get("client")
    address = admin.proved_address(headers) or (client[0] if client else "unknown")
    caller = connection.scope.get("state", {}).get(PROVED_CALLER)
    if caller is None:
        caller = await admin.identify(find_candidates(headers), address)
    if access == "analyst":
        team_seen_by(caller, now_us())
        for owner in admin.snapshot.owners_of(caller.key) if caller.key is not None else ():
            if owner.blocked or owner.deleted:
                raise Forbidden("the team or the user of this virtual key is blocked or deleted")
    elif not is_admitted(caller, access):
        raise Forbidden(refusal_of(caller, access))
    scope = connection.scope
    method = str(scope.get("method", ""))
    refuse_other_routes(caller.key, method, scope["path_template"])
    connection.state.caller = caller
    request_id = scope.get("state", {}).get("request_id", "")
    note_origin(address, method, scope["path_template"], request_id)
    condition = note_condition(connection, handler)
    if condition is not None:
        await admin.writer.seen(condition.newest)


def caller_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Principal:
    """Return who was admitted by the guard."""
    caller: Principal = connection.state.caller
    return caller
