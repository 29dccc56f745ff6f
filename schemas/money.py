"""Exact money: decimals and integers, never floats.

The smallest unit is the pico-dollar (1e-12 USD). Every list price of a token has at most six
decimals per million tokens after its multipliers, so the cost of one token is a whole number
of pico-dollars, and a cost is exact to DECIMAL(18, 12) of the ledger.
"""

from decimal import Decimal

__all__ = ["PICOS_PER_USD", "picos_from_usd", "usd_from_picos", "usd_text"]

PICOS_PER_USD = 10**12
_QUANTUM = Decimal(1).scaleb(-12)


def usd_from_picos(cost_picos: int) -> Decimal:
    """Return pico-dollars as a Decimal of dollars with exactly twelve places."""
    return Decimal(cost_picos).scaleb(-12)


def picos_from_usd(amount_usd: Decimal) -> int:
    """Return dollars as whole pico-dollars.

    Raises ValueError where the amount has more than twelve decimal places or is not finite.
    """
    if not amount_usd.is_finite():
        raise ValueError(f"an amount of money must be finite, not {amount_usd}")
    picos = amount_usd.scaleb(12)
    whole = int(picos)
    if whole != picos:
        raise ValueError(f"{amount_usd} USD has more than twelve decimal places")
    return whole


def usd_text(amount_usd: Decimal) -> str:
    """Return dollars for people: two decimals at least, rounded to six at most ("$0.249754")."""
    text = f"{amount_usd:,.6f}"
    whole, _, decimals = text.partition(".")
    decimals = decimals.rstrip("0").ljust(2, "0")
    return f"${whole}.{decimals}"
