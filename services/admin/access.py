"""Which routes are whose: what each handler asks for, and who has it. Pure.

`public` asks for nothing; `own_key` for any key, of which it shows what is its own; `analyst` for
a key that may ask the ledger; `read` for one that sees everything; `admin` for one that changes
everything. The master key has all of it.
"""

from typing import Literal

from services.admin.principal import Principal

__all__ = ["Access", "is_admitted", "refusal_of"]

Access = Literal["public", "own_key", "analyst", "read", "admin"]

_NEEDED: dict[Access, str] = {
    "read": "the master key, or a virtual key of a proxy_admin or proxy_admin_viewer",
    "admin": "the master key, or a virtual key of a proxy_admin",
}


def is_admitted(caller: Principal, access: Access) -> bool:
    """Tell whether a caller may use routes of this kind; what it sees there is the handler's."""
    if access in ("public", "own_key", "analyst") or caller.manages_all:
        return True
    return access == "read" and caller.sees_all


def refusal_of(caller: Principal, access: Access) -> str:
    """Return why a caller is refused, and what the route needs."""
    key = caller.key
    assert key is not None, "the master key is admitted everywhere"
    text = (
        f"this route needs {_NEEDED[access]}; the request was made with the virtual key "
        f"{key.key_alias or key.key_name}"
    )
    if caller.problem is not None:
        return f"{text}, which {caller.problem}"
    if caller.role is not None:
        return f"{text} of a user with the role {caller.role}"
    return f"{text}, which has no role"
