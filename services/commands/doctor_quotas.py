"""`tallygate doctor`: the subscriptions that are near the end of their quota."""

from collections import defaultdict

from schemas.events import time_from_us
from services.commands.doctor_check import Check, Place, fine, warned

__all__ = ["NEAR_RATIO", "check_alerts", "check_quotas"]

NEAR_RATIO = 0.8
"""From this share of a window on a subscription is worth a line; `docs/analytics.md` has it too."""
_LISTED_MAX = 20
_UNPAID = "tallygate_quota_unpaid_requests_total"
_READER = "ledger-reader"
_WINDOWS = {"five_hour": "5 hours", "seven_day": "7 days"}


def check_alerts(place: Place) -> list[Check]:
    """Look at what the admin service could not tell anybody since it began."""
    undelivered = place.value("tallygate_alerts_undelivered_total", "admin")
    failed = place.value("tallygate_alert_failed_attempts_total", "admin")
    if undelivered is None or failed is None:
        return []
    if undelivered:
        return [
            warned(
                "alerts",
                f"{undelivered:,.0f} alerts were given up since the admin service began",
                "tallygate alerts list shows them, and why; tallygate alerts test sends another",
            )
        ]
    return [fine("alerts", "none was given up since the admin service began")]


def check_quotas(place: Place) -> list[Check]:
    """Look at what the reader tells of seats; nothing is said where it tells nothing."""
    count = place.value("tallygate_quota_seats", _READER)
    if count is None:
        return []
    near = _near(place)
    if (unpaid := sum(each.value for each in place.named(_UNPAID))) > 0:
        return [
            warned(
                "quotas",
                f"{unpaid:,.0f} requests of keys with on_quota_exhausted: pay were refused: no "
                "deployment of their models has an api_key and is well",
                "set litellm_params.api_key of a deployment of each model that they use, or a "
                "fallback (docs/routing.md)",
                tuple(f"seat {seat}: {what}" for seat, what in sorted(near.items()))[:_LISTED_MAX],
            )
        ]
    if not near:
        return [fine("quotas", f"none of {count:,.0f} subscriptions is near its limits")]
    lines = [f"seat {seat}: {what}" for seat, what in sorted(near.items())]
    return [
        warned(
            "quotas",
            f"{len(near)} of {count:,.0f} subscriptions are near a limit, or refused",
            "the question 'Who is near the wall' in docs/analytics.md names the people; "
            "on_quota_exhausted: pay of a key or team lets them go on over an API key",
            tuple(lines[:_LISTED_MAX]),
        )
    ]


def _near(place: Place) -> dict[str, str]:
    """Return the seats in question, each with what is said of it."""
    ends = {
        (each.labels["seat"], each.labels["window"]): each.value
        for each in place.named("tallygate_quota_reset_time_seconds")
        if each.labels["part"] == _READER
    }
    near: defaultdict[str, list[str]] = defaultdict(list)
    for each in place.named("tallygate_quota_status"):
        if each.labels["part"] == _READER and each.labels["status"] == "rejected":
            near[each.labels["seat"]].append("refused")
    for each in place.named("tallygate_quota_utilization_ratio"):
        seat, window = each.labels["seat"], each.labels["window"]
        if each.labels["part"] != _READER or each.value < NEAR_RATIO:
            continue
        said = f"{100 * each.value:.0f} % of its {_WINDOWS.get(window, window)}"
        if (end_s := ends.get((seat, window))) is not None:
            said += time_from_us(int(end_s) * 1_000_000).strftime(" until %b %-d %H:%M UTC")
        near[seat].append(said)
    return {seat: ", ".join(said) for seat, said in near.items()}
