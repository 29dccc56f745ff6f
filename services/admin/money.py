"""Money in the management API: JSON numbers whose text is exact, never floats."""

from decimal import Decimal

__all__ = ["BUDGET_USD_MAX", "budget_problem", "plain_number"]

BUDGET_USD_MAX = 10**9
"""A larger budget is a mistake: nobody spends a billion dollars with one key."""
_PLACES_MAX = 12


def budget_problem(amount_usd: Decimal) -> str | None:
    """Return what is wrong with a budget in dollars, or None.

    The bounds are looked at before any arithmetic: `1e999999999` is a number in JSON too.
    """
    if not amount_usd.is_finite():
        return "must be a finite number"
    if amount_usd < 0:
        return "must not be negative"
    if amount_usd > BUDGET_USD_MAX:
        return f"must be at most {BUDGET_USD_MAX} (US dollars)"
    if amount_usd and amount_usd.adjusted() < -_PLACES_MAX:
        return f"must have at most {_PLACES_MAX} decimal places"
    exponent = amount_usd.normalize().as_tuple().exponent
    if isinstance(exponent, int) and exponent < -_PLACES_MAX:
        return f"must have at most {_PLACES_MAX} decimal places"
    return None


def plain_number(amount_usd: Decimal) -> Decimal:
    """Return the same amount without trailing zeros and without a positive exponent.

    `0.249754000000` is written `0.249754`, `100.00` is written `100`.
    """
    short = amount_usd.normalize()
    exponent = short.as_tuple().exponent
    return short.quantize(Decimal(1)) if isinstance(exponent, int) and exponent > 0 else short
