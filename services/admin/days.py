"""Days as the API is given them."""

from datetime import UTC, datetime, timedelta

from schemas.errors import BadRequest
from schemas.events import us_from_time

__all__ = ["midnight_us"]


def midnight_us(name: str, date: str, *, days_after: int = 0) -> int:
    """Return the beginning of a day (UTC) in microseconds since the epoch. Raises BadRequest."""
    try:
        midnight = datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC)
        return max(0, us_from_time(midnight + timedelta(days=days_after)))
    except (ValueError, OverflowError):
        raise BadRequest(f"{name} must be a date such as 2026-11-30", param=name) from None
