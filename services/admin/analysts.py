"""Virtual keys that may ask the ledger in SQL: what they may be given, and what they see. Pure."""

from typing import Literal

from schemas.errors import BadRequest, Forbidden
from schemas.registry import KeyRecord
from services.admin.principal import Principal
from services.admin.shapes import status_of

__all__ = ["analyst_from", "check_analyst", "team_seen_by"]

_WITHOUT_TEAM = (
    "analyst: a key without a team_id has no team whose rows it could see: give it one, or let it "
    'see all rows with "analyst": "all"'
)


def analyst_from(
    given: Literal["team", "all", True, False] | None, team_id: str | None
) -> Literal["team", "all"] | None:
    """Return what a request asks for; true means the rows of the key's team.

    Raises BadRequest where there is no team: all rows must be asked for in so many words.
    """
    if isinstance(given, str) or given is None:
        return given
    if given and team_id is None:
        raise BadRequest(_WITHOUT_TEAM, param="analyst")
    return "team" if given else None


def check_analyst(record: KeyRecord) -> None:
    """Raise BadRequest for a key that is limited to the rows of a team and has none."""
    if record.analyst == "team" and record.team_id is None:
        raise BadRequest(_WITHOUT_TEAM, param="analyst")


def team_seen_by(caller: Principal, now_us: int) -> str | None:
    """Return the team whose rows the caller may see alone; None: all rows.

    Raises Forbidden for a key that may not ask the ledger, or not any more.
    """
    key = caller.key
    if key is None or caller.sees_all:
        return None
    if key.analyst is None:
        raise Forbidden(
            f"the virtual key {key.key_alias or key.key_name} may not ask the ledger: that needs "
            "the master key, a key with the permission `analyst`, or one of an admin"
        )
    status = status_of(key, now_us)
    if status != "active":
        raise Forbidden(f"the virtual key {key.key_alias or key.key_name} is {status}")
    if key.analyst == "all":
        return None
    if key.team_id is None:
        raise Forbidden("this key may see the rows of its team alone, and it has no team")
    return key.team_id
