"""The registry's records: the whole state of a virtual key, as its events carry it."""

from decimal import Decimal
from typing import Any

import msgspec

__all__ = ["KeyRecord"]


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state of one virtual key. Every `key.*` event carries the whole record.

    Times are RFC 3339 UTC in microseconds since the epoch (`*_at_us`); money is a decimal string.
    An empty `models` allows every model. `deleted` marks the last record of a key: its history
    stays in the stream, the key is refused.
    """

    key_id: str
    key_hash: str
    key_name: str
    key_alias: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    models: tuple[str, ...] = ()
    max_budget_usd: Decimal | None = None
    soft_budget_usd: Decimal | None = None
    budget_duration: str | None = None
    expires_at_us: int | None = None
    blocked: bool = False
    deleted: bool = False
    metadata: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    created_at_us: int = 0
    created_by: str | None = None
    updated_at_us: int = 0
    updated_by: str | None = None
