"""The options that set a key's rate limits, and how these are shown."""

from typing import Any

import rich_click as click

__all__ = ["RATE_FIELDS", "RATE_OPTIONS", "model_rates", "rates_text"]

RATE_FIELDS = {
    "rpm_limit": "rpm_limit",
    "tpm_limit": "tpm_limit",
    "max_parallel_requests": "max_parallel_requests",
    "model_rpm_limit": "model_rpm_limit",
    "model_tpm_limit": "model_tpm_limit",
}
"""Each option and the field of the API that it sets."""

RATE_OPTIONS = (
    click.option(
        "--model-tpm-limit",
        multiple=True,
        metavar="MODEL=N",
        help="Tokens a minute for one model, likewise.",
    ),
    click.option(
        "--model-rpm-limit",
        multiple=True,
        metavar="MODEL=N",
        help="Requests a minute for one model, or for all that a pattern with * matches; may be "
        "given several times. All of them are set anew.",
    ),
    click.option("--max-parallel-requests", type=int, help="Requests under way at a time."),
    click.option("--tpm-limit", type=int, help="Tokens a minute, of all kinds."),
    click.option("--rpm-limit", type=int, help="Requests a minute."),
)


def model_rates(option: str, given: tuple[str, ...]) -> dict[str, int]:
    """Return limits by model from `MODEL=N`. Raises click.BadParameter."""
    rates = {}
    for text in given:
        model, _, number = text.rpartition("=")
        if not model or not number.isascii() or not number.isdigit():
            name = "--" + option.replace("_", "-")
            raise click.BadParameter(f"{name} must be MODEL=N, such as claude-opus-4=5")
        rates[model] = int(number)
    return rates


def rates_text(row: Any) -> str:
    """Return a key's rate limits for people, "none" where it has none."""
    plain = [
        (row.rpm_limit, "requests a minute"),
        (row.tpm_limit, "tokens a minute"),
        (row.max_parallel_requests, "requests at a time"),
    ]
    parts = [f"{limit} {what}" for limit, what in plain if limit is not None]
    for rates, what in ((row.model_rpm_limit, "requests"), (row.model_tpm_limit, "tokens")):
        parts += [f"{model}: {limit} {what} a minute" for model, limit in rates.items()]
    return "; ".join(parts) or "none"
