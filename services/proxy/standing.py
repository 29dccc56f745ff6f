"""What answers tell of budgets: how much is left, and Claude Code's own usage notice. Pure.

Claude Code shows "You've used 80% of your usage credits · resets …" of the usage-limit headers that
Anthropic's own gateway sends: to subscribers, and to clients that take the API for a gateway
(measured with 2.1.330). They are laid on an answer from WARNED_FROM on, and only where the API
itself warns of nothing: `representative-claim` decides what is shown, and the limits of somebody's
own subscription come first (docs/claude-code.md).
"""

from collections.abc import Iterable
from decimal import ROUND_DOWN, Decimal
from typing import NamedTuple

from services.proxy.headers import RawHeaders

__all__ = ["WARNED_FROM", "Standing", "notice", "with_standing"]

WARNED_FROM = Decimal("0.75")
"""From such a part of a budget on, an answer carries the notice."""
_URGENT_FROM = Decimal("0.95")
_SHOWN_MAX = Decimal("0.99")
"""A request that was let in has not used up its budget: no more than this is told of it."""
_QUANTUM = Decimal("0.0001")

_UNIFIED = b"anthropic-ratelimit-unified-"
_STATUS = _UNIFIED + b"status"
_OVERAGE = _UNIFIED + b"overage-"
_REPLACED = frozenset({_STATUS, _UNIFIED + b"reset", _UNIFIED + b"representative-claim"})
_CALM = b"allowed"


class Standing(NamedTuple):
    """How one budget stands: what is spent of how much, and when its window ends (None: never)."""

    scope: str
    spend_usd: Decimal
    max_budget_usd: Decimal
    resets_at_us: int | None = None

    @property
    def used(self) -> Decimal:
        """The part that is spent: 0.8 is 80 %. All of a budget of nothing."""
        if self.max_budget_usd <= 0:
            return Decimal(1)
        return self.spend_usd / self.max_budget_usd

    @property
    def left_usd(self) -> Decimal:
        """What may still be spent; never below zero."""
        return max(Decimal(0), self.max_budget_usd - self.spend_usd)


def with_standing(headers: RawHeaders, standings: Iterable[Standing]) -> RawHeaders:
    """Return the headers of a successful answer with what its client's budgets say.

    `standings`: those of every budget that the request counts for; the tightest, which has the
    largest part used, makes the notice, that with the least left the amount. LiteLLM's headers are
    about the key's own budget alone.
    """
    known = sorted(standings, key=lambda each: each.used, reverse=True)
    if not known:
        return headers
    left_usd = min(each.left_usd for each in known)
    told = notice(known[0], headers)
    if told:
        headers = [
            header
            for header in headers
            if header[0] not in _REPLACED and not header[0].startswith(_OVERAGE)
        ]
    added = [*headers, *told, (b"x-tallygate-budget-remaining-usd", _plain(left_usd))]
    own = next((each for each in known if each.scope == "key"), None)
    if own is not None:
        added += (
            (b"x-litellm-key-spend", _plain(own.spend_usd)),
            (b"x-litellm-key-max-budget", _plain(own.max_budget_usd)),
        )
    return added


def notice(standing: Standing, upstream: RawHeaders) -> RawHeaders:
    """Return the headers that make Claude Code show a budget's standing; [] where it shall not.

    `upstream` are the headers of the API's answer. What these warn of is more urgent: it is about
    the client's own subscription.
    """
    used = standing.used
    if used < WARNED_FROM or any(name == _STATUS and value != _CALM for name, value in upstream):
        return []
    threshold = _URGENT_FROM if used >= _URGENT_FROM else WARNED_FROM
    shown = min(used, _SHOWN_MAX).quantize(_QUANTUM, ROUND_DOWN)
    headers = [
        (_STATUS, b"allowed_warning"),
        (_UNIFIED + b"representative-claim", b"overage"),
        (_OVERAGE + b"status", b"allowed_warning"),
        (_OVERAGE + b"utilization", _plain(shown)),
        (_OVERAGE + b"surpassed-threshold", _plain(threshold)),
    ]
    if standing.resets_at_us is not None:
        resets_s = b"%d" % -(-standing.resets_at_us // 1_000_000)
        headers += ((_UNIFIED + b"reset", resets_s), (_OVERAGE + b"reset", resets_s))
    return headers


def _plain(amount: Decimal) -> bytes:
    """Return a number without an exponent and without zeros at its end."""
    text = f"{amount:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).encode()
