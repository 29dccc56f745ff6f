"""Days and moments as the API is given them: UTC."""

from datetime import UTC, datetime, timedelta

from schemas.errors import BadRequest
from schemas.events import us_from_time

__all__ = ["midnight_us", "moment_us"]


def midnight_us(name: str, date: str, *, days_after: int = 0) -> int:
    """Return the beginning of a day (UTC) in microseconds since the epoch. Raises BadRequest."""
    try:
        midnight = datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC)
        return max(0, us_from_time(midnight + timedelta(days=days_after)))
    except (ValueError, OverflowError):
        raise BadRequest(f"{name} must be a date such as 2026-11-30", param=name) from None


def moment_us(name: str, text: str, *, is_end: bool = False) -> int:
    """Return a moment in microseconds since the epoch: a day (UTC), or a time of one.

    `is_end`: the first microsecond that is not meant any more, as the day or second is included.
    Raises BadRequest.
    """
    if len(text.strip()) <= len("2026-11-30"):
        return midnight_us(name, text.strip(), days_after=1 if is_end else 0)
    try:
        time = datetime.fromisoformat(text.strip())
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        return max(0, us_from_time(time + timedelta(seconds=1 if is_end else 0)))
    except (ValueError, OverflowError):
        raise BadRequest(
            f"{name} must be a date such as 2026-11-30 or a time such as 2026-11-30 15:04:05 (UTC)",
            param=name,
        ) from None
