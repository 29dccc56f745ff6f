"""Which routes are whose: what each handler asks for, and who has it. Pure.

| kind | who may call |
|---|---|
| `public` | anyone |
| `own_key` | any key, also one that is blocked, to see itself |
| `analyst` | a key that may ask the ledger |
| `own` | any key in force; the handler shows what is its own |
| `part` | a key with a role, or of a team's admin; the handler shows what is its own |
| `keys` | one that may manage keys; the handler says which |
| `team` | one that manages a team; the handler says which |
| `read` | one that sees everything |
| `admin` | one that changes everything |

The master key has all of it.
"""

from typing import Literal

from services.admin.principal import Principal

__all__ = ["Access", "is_admitted", "refusal_of"]

Access = Literal["public", "own_key", "analyst", "own", "part", "keys", "team", "read", "admin"]

_NEEDED: dict[Access, str] = {
    "own": "a virtual key that is in force",
    "part": "the master key, or a virtual key of a user with a role or of a team's admin",
    "keys": "the master key, or a virtual key of a proxy_admin, an internal_user or a team's admin",
    "team": "the master key, or a virtual key of a proxy_admin or a team's admin",
    "read": "the master key, or a virtual key of a proxy_admin or proxy_admin_viewer",
    "admin": "the master key, or a virtual key of a proxy_admin",
}


def is_admitted(caller: Principal, access: Access) -> bool:
    """Tell whether a caller may use routes of this kind; what it sees there is the handler's."""
    if access in ("public", "own_key", "analyst") or caller.manages_all:
        return True
    if access == "own":
        return caller.problem is None
    if access == "part":
        return caller.has_part
    if access == "keys":
        return caller.manages_own_keys or bool(caller.teams_administered)
    if access == "team":
        return bool(caller.teams_administered)
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
