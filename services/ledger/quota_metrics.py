"""The metrics of subscriptions' quotas: the last word on each seat that was heard of lately."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from services.runtime.metrics import Sample, sample

__all__ = ["QUOTAS_LATELY", "SEATS_TOLD_MAX", "quota_samples"]

SEATS_TOLD_MAX = 100
"""The metrics tell of so many seats, those heard of last first: five series each. SQL has all."""
QUOTAS_LATELY = f"""
    SELECT
        seat,
        arg_max(
            struct_pack(
                status, resets_at,
                five_hour_utilization, five_hour_resets_at,
                seven_day_utilization, seven_day_resets_at
            ),
            (observed_at, stream_sequence)
        ) AS told,
        count(*) OVER () AS seats
    FROM quota_observations
    WHERE billing = 'subscription' AND observed_at > now()::TIMESTAMP - INTERVAL 8 DAY
    GROUP BY seat
    ORDER BY max(observed_at) DESC, seat
    LIMIT {SEATS_TOLD_MAX}
"""  # noqa: S608 - a constant
"""A seat that was not heard of for longer than its longest window has nothing to tell."""

_WINDOWS = ("five_hour", "seven_day")


def quota_samples(rows: Sequence[tuple[Any, ...]], now: datetime) -> list[Sample]:
    """Return the metrics of QUOTAS_LATELY's rows; `now` is in UTC, without a zone as they are.

    A window that has ended since counts as empty, a refusal until such an end as over.
    """
    found = [sample("tallygate_quota_seats", rows[0][2] if rows else 0)]
    for seat, told, _ in rows:
        if (status := told["status"]) is not None:
            is_over = told["resets_at"] is not None and told["resets_at"] <= now
            found.append(
                sample("tallygate_quota_status", 1, seat, "allowed" if is_over else status)
            )
        for window in _WINDOWS:
            used, resets_at = told[f"{window}_utilization"], told[f"{window}_resets_at"]
            if used is not None:
                is_over = resets_at is not None and resets_at <= now
                used = 0 if is_over else float(used)
                found.append(sample("tallygate_quota_utilization_ratio", used, seat, window))
            if resets_at is not None:
                # Counted from the epoch in whole seconds: the API tells no fractions.
                ends_s = (resets_at - datetime(1970, 1, 1)).total_seconds()  # noqa: DTZ001
                found.append(sample("tallygate_quota_reset_time_seconds", ends_s, seat, window))
    return found
