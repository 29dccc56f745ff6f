"""Which subscriptions have no quota left: what each worker knows of them, by what it was told.

Pure but for the clock, which is passed in. docs/routing.md describes the rules. A seat is told here
by the credential alone, never by the account that a request names: that is the client's own word,
and whoever gave another's would have the company pay for that one's requests.
"""

import hashlib
from collections.abc import Callable, Sequence

from schemas.registry import KeyRecord, OnQuotaExhausted, TeamRecord, UserRecord
from services.proxy.headers import RawHeaders
from services.runtime.metrics import Sample, sample

__all__ = ["RECHECK_US", "SEATS_MAX", "SpentSeats", "quota_rule", "without_oauth_beta"]

RECHECK_US = 600_000_000
"""A seat is asked again after so many microseconds, though its window ends later: its owner may
have bought more. A refusal costs nothing."""
SEATS_MAX = 1000
"""So many seats are remembered, those that were refused last; of others each request asks anew."""

_PREFIX = b"anthropic-ratelimit-unified-"
_STATUS = b"-status"
_OVERAGE_STATUS = b"overage-status"
_REJECTED = b"rejected"
_WHOLE_SEAT = frozenset({b"", b"five_hour", b"seven_day"})
"""Claims that stand for all models. All others, such as seven_day_opus, are about the one asked."""
_SECONDS_DIGITS_MAX = 11
_OAUTH_BETA = b"oauth-"
_BETA = b"anthropic-beta"


def quota_rule(
    key: KeyRecord, owners: Sequence[TeamRecord | UserRecord]
) -> OnQuotaExhausted | None:
    """Return what holds for a key: its own word, else that of its team; None: neither says."""
    if key.on_quota_exhausted is not None:
        return key.on_quota_exhausted
    for owner in owners:
        if isinstance(owner, TeamRecord):
            return owner.on_quota_exhausted
    return None


class SpentSeats:
    """The seats of which the API said that their quota is used up, until it is there again.

    `paid` counts the requests that an `api_key` paid for that reason, `unpaid` those that it should
    have paid and that nothing could serve.
    """

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._until_us: dict[tuple[bytes, str], int] = {}
        self.paid = 0
        self.unpaid = 0

    def samples(self) -> list[Sample]:
        """Return what is counted."""
        return [
            sample("tallygate_quota_paid_requests_total", self.paid),
            sample("tallygate_quota_unpaid_requests_total", self.unpaid),
        ]

    def is_spent(self, credential: bytes, model: str) -> bool:
        """Tell whether a seat is known to have nothing left for a model of the API."""
        if not self._until_us:
            return False
        seat = _hash(credential)
        return any(self._is_waiting((seat, scope)) for scope in ("", model))

    def _is_waiting(self, place: tuple[bytes, str]) -> bool:
        until_us = self._until_us.get(place)
        if until_us is None:
            return False
        if self._now_us() < until_us:
            return True
        del self._until_us[place]
        return False

    def was_refused(self, credential: bytes, model: str, headers: RawHeaders) -> bool:
        """Take in a 429; tell whether it says that the quota is used up.

        A 429 without these headers is about something else: too much at once.
        """
        told = {name[len(_PREFIX) :]: value for name, value in headers if name.startswith(_PREFIX)}
        windows = [
            name.removesuffix(_STATUS)
            for name, value in told.items()
            if value == _REJECTED and name.endswith(_STATUS) and name != _OVERAGE_STATUS
        ]
        if told.get(b"status", _REJECTED if windows else b"") != _REJECTED:
            return False
        now_us = self._now_us()
        ends = [_time_us(told.get(b"reset"))]
        if ends == [None]:
            ends = [_time_us(told.get(window + b"-reset")) for window in windows]
        until_us = max((end for end in ends if end is not None), default=now_us + RECHECK_US)
        is_whole = told.get(b"representative-claim", b"") in _WHOLE_SEAT
        place = (_hash(credential), "" if is_whole else model)
        self._until_us.pop(place, None)
        # What was refused last stands last: the first one is forgotten first.
        self._until_us[place] = min(until_us, now_us + RECHECK_US)
        if len(self._until_us) > SEATS_MAX:
            del self._until_us[next(iter(self._until_us))]
        return True


def without_oauth_beta(headers: RawHeaders) -> RawHeaders:
    """Return a subscription's headers as they are with an API key: without the beta of OAuth.

    The API answers 400 for a beta that an account has no access to.
    """
    kept: RawHeaders = []
    for name, value in headers:
        if name != _BETA:
            kept.append((name, value))
            continue
        betas = [beta.strip() for beta in value.split(b",")]
        if rest := [beta for beta in betas if not beta.startswith(_OAUTH_BETA)]:
            kept.append((name, value if len(rest) == len(betas) else b",".join(rest)))
    return kept


def _hash(credential: bytes) -> bytes:
    return hashlib.blake2b(credential, digest_size=16).digest()


def _time_us(seconds: bytes | None) -> int | None:
    if seconds is None or not seconds.isdigit() or len(seconds) > _SECONDS_DIGITS_MAX:
        return None
    return int(seconds) * 1_000_000
