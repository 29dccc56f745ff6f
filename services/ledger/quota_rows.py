"""The rows of the table `quota_observations`: what the API's headers said of an account. Pure.

The headers are the API's own, and more of them may come: those that are known become columns, all
of them are kept as they were told. A value that cannot be read leaves its column NULL.
"""

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas.events import UsageRecord, us_from_time
from services.ledger.request_rows import Origin

__all__ = ["quota_row"]

_FRACTION = re.compile(r"[0-9]{1,4}(\.[0-9]{0,18})?")
_COUNT = re.compile(r"[0-9]{1,18}")
_SECONDS = re.compile(r"[0-9]{1,11}")
_SECONDS_MAX = 253_402_300_799
_PLACES = 6
_MILLION = 1_000_000
_TEXT_MAX = 64
_WINDOWS = ("unified-5h", "unified-7d", "unified-overage")
_COUNTERS = ("requests", "tokens", "input-tokens", "output-tokens")


def quota_row(record: UsageRecord, origin: Origin) -> tuple[Any, ...] | None:
    """Return the observation that a request brought, in the order of QUOTA_COLUMNS; None: none."""
    quota = record.quota
    if quota is None:
        return None
    headers = quota.headers
    row: list[Any] = [
        record.first_byte_at_us or record.ended_at_us,
        quota.seat,
        record.billing,
        record.key_id,
        record.key_alias,
        record.user_id,
        record.team_id,
        record.deployment,
        record.request_id,
        record.http_status,
        _text(headers.get("unified-status")),
        _text(headers.get("unified-representative-claim")),
        _time_us(headers.get("unified-reset")),
    ]
    for window in _WINDOWS:
        row += [
            _text(headers.get(f"{window}-status")),
            _millionths(headers.get(f"{window}-utilization")),
            _time_us(headers.get(f"{window}-reset")),
        ]
    row.append(_text(headers.get("unified-overage-disabled-reason")))
    for counter in _COUNTERS:
        row += [
            _count(headers.get(f"{counter}-limit")),
            _count(headers.get(f"{counter}-remaining")),
            _time_us(headers.get(f"{counter}-reset")),
        ]
    told = dict(sorted(headers.items()))
    return (*row, msgspec.json.encode(told).decode(), origin[2])


def _text(value: str | None) -> str | None:
    return value[:_TEXT_MAX] if value else None


def _count(value: str | None) -> int | None:
    return int(value) if value is not None and _COUNT.fullmatch(value) else None


def _millionths(value: str | None) -> int | None:
    """Return a fraction such as 0.91 in whole millionths, cut there."""
    if value is None or not _FRACTION.fullmatch(value):
        return None
    whole, _, rest = value.partition(".")
    return int(whole) * _MILLION + int(rest[:_PLACES].ljust(_PLACES, "0"))


def _time_us(value: str | None) -> int | None:
    """Return a moment given in seconds since 1970, or as RFC 3339, in microseconds."""
    if value is None:
        return None
    if _SECONDS.fullmatch(value):
        seconds = int(value)
        return seconds * _MILLION if seconds <= _SECONDS_MAX else None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    time = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    time_us = us_from_time(time)
    return time_us if time_us >= 0 else None
