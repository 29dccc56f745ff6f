"""Virtual keys as the API shows them: their table, and how an alias becomes an id."""

import re
from collections.abc import Sequence

import msgspec

from services.client.gateway import ClientError, Gateway
from services.client.limited_rows import LimitedRow, note_spend_error
from services.client.output import dollars, print_table

__all__ = ["KeyPage", "KeyRow", "print_keys", "resolve_key"]

_AS_IT_IS = re.compile(r"sk-.+|key_[0-9a-f]{24}|[0-9a-f]{64}", re.DOTALL)
_COLUMNS = ["alias", "key", "status", "spend", "budget", "period", "models", "user", "team", "id"]
_MONEY_COLUMNS = frozenset((3, 4))


class KeyRow(LimitedRow, kw_only=True):
    """What a table shows of a key."""

    key_id: str
    key_name: str
    status: str
    key_alias: str | None = None
    expires: str | None = None
    former_key_until: str | None = None
    models: tuple[str, ...] = ()
    user_id: str | None = None
    team_id: str | None = None
    token: str | None = None
    tags: tuple[str, ...] = ()
    analyst: str | None = None
    names_end_users: bool = False
    store_prompts: bool | None = None
    on_quota_exhausted: str | None = None
    allowed_routes: tuple[str, ...] = ()
    aliases: dict[str, str] = msgspec.field(default_factory=dict)


class KeyPage(msgspec.Struct):
    """One page of keys."""

    keys: list[KeyRow]
    total_count: int
    current_page: int
    total_pages: int


def print_keys(rows: Sequence[KeyRow]) -> None:
    """Print keys as a table, and a note where their spend is not known."""
    cells = [
        [
            row.key_alias,
            row.key_name,
            row.status,
            dollars(row.spend),
            dollars(row.max_budget),
            row.budget_duration,
            ", ".join(row.models) or "all",
            row.user_id,
            row.team_id,
            row.key_id,
        ]
        for row in rows
    ]
    print_table(_COLUMNS, cells, right=_MONEY_COLUMNS)
    note_spend_error(rows)


def resolve_key(gateway: Gateway, key: str) -> str:
    """Return what the API knows a key by: an alias is looked up, all else stays as it is.

    Raises ClientError where no live key has the alias.
    """
    if _AS_IT_IS.fullmatch(key):
        return key
    content = gateway.get("/key/list", key_alias=key, return_full_object="true")
    found = msgspec.json.decode(content, type=KeyPage).keys
    if not found:
        raise ClientError(f"no key has the alias {key!r}; `tallygate keys list` shows them all")
    return found[0].key_id
