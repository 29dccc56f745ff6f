"""What holds for one request: its limits, and the permit that counts it until it is over."""

from collections.abc import Callable, Iterable

import msgspec

from schemas.config import RateLimitTokens
from schemas.rates import RateWhat
from schemas.usage import Usage
from services.proxy.headers import RawHeaders
from services.proxy.rate_tally import Tally

__all__ = ["RATE_UNITS", "Limit", "Limits", "Permit", "tokens_of"]

RATE_UNITS: dict[RateWhat, str] = {
    "requests": "requests a minute",
    "tokens": "tokens a minute",
    "parallel": "requests at a time",
}
"""What is counted, for people."""
_BYTES_PER_TOKEN: dict[RateLimitTokens, int] = {"all": 4, "uncached": 40}
"""So many bytes of a request are held as one token. Nine tenths of a conversation were there before
and come from a cache."""
_TOLD: tuple[tuple[bytes, RateWhat], ...] = ((b"requests", "requests"), (b"tokens", "tokens"))


def tokens_of(usage: Usage, kind: RateLimitTokens = "all") -> int:
    """Return the tokens of a request that count: all, or all but those read from a cache."""
    uncached = (
        usage.input_tokens
        + usage.output_tokens
        + usage.cache_write_5m_tokens
        + usage.cache_write_1h_tokens
    )
    return uncached if kind == "uncached" else uncached + usage.cache_read_tokens


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One limit that holds for a request. `owner` is whose it is, for people: "team blue".

    `told_as` are the names of headers of its own, for the limit and for what is left of it.
    """

    what: RateWhat
    maximum: int
    tally: Tally
    owner: str
    model: str | None = None
    told_as: tuple[bytes, bytes] | None = None

    @property
    def text(self) -> str:
        """Say what may be, for people."""
        of_model = f" for the model {self.model}" if self.model is not None else ""
        return f"{self.owner}{of_model}: {self.maximum} {RATE_UNITS[self.what]}"


class Limits(msgspec.Struct, frozen=True):
    """All limits that hold for a request, and headers that are told besides where they stand.

    The tallies stand once more by what they count: these are what each request needs.
    """

    all: tuple[Limit, ...]
    told: tuple[tuple[bytes, bytes], ...]
    maxima: tuple[tuple[Tally, int], ...]
    requests: tuple[Tally, ...]
    tokens: tuple[Tally, ...]
    parallel: tuple[Tally, ...]

    @classmethod
    def of(cls, limits: Iterable[Limit], told: Iterable[tuple[bytes, bytes]] = ()) -> "Limits":
        """Return these limits, sorted."""
        found = tuple(limits)
        return cls(
            found,
            tuple(told),
            tuple((each.tally, each.maximum) for each in found),
            tuple(each.tally for each in found if each.what == "requests"),
            tuple(each.tally for each in found if each.what == "tokens"),
            tuple(each.tally for each in found if each.what == "parallel"),
        )

    def headers(self, now_s: float) -> RawHeaders:
        """Return the headers about requests and tokens, each of the limit with the least left."""
        headers: RawHeaders = []
        for what, kind in _TOLD:
            tightest: Limit | None = None
            left = 0
            for limit in self.all:
                if limit.what == kind:
                    rest = limit.maximum - limit.tally.level(now_s)
                    if limit.told_as is not None:
                        headers.append((limit.told_as[0], b"%d" % limit.maximum))
                        headers.append((limit.told_as[1], b"%d" % max(0, rest)))
                    if tightest is None or rest < left:
                        tightest, left = limit, rest
            if tightest is not None:
                headers.append((b"x-ratelimit-limit-" + what, b"%d" % tightest.maximum))
                headers.append((b"x-ratelimit-remaining-" + what, b"%d" % max(0, left)))
        headers += self.told
        return headers


class Permit:
    """One request that began: it counts until `ended`. Made by Rates."""

    __slots__ = ("_estimate", "_is_held", "_limits", "_now_s", "_tokens")

    def __init__(
        self,
        limits: Limits,
        request_bytes: int,
        tokens: RateLimitTokens,
        now_s: Callable[[], float],
    ) -> None:
        self._limits = limits
        self._tokens = tokens
        self._estimate = -(-request_bytes // _BYTES_PER_TOKEN[tokens])
        self._now_s = now_s
        self._is_held = False

    def began(self, at_s: float) -> None:
        """Count the request, and hold what it is thought to use."""
        for tally in self._limits.requests:
            tally.add(at_s, 1, 1)
        self.again()

    def again(self) -> None:
        """Hold what the request is thought to use: it is sent once more."""
        if self._is_held:
            return
        self._is_held = True
        for tally in self._limits.parallel:
            tally.hold(1)
        for tally in self._limits.tokens:
            tally.hold(self._estimate)

    def ended(self, usage: Usage | None = None) -> None:
        """Count what an attempt used, and hold nothing more. Harmless when repeated."""
        if not self._is_held:
            return
        self._is_held = False
        for tally in self._limits.parallel:
            tally.release(1)
        for tally in self._limits.tokens:
            tally.release(self._estimate)
            if usage is not None:
                used = tokens_of(usage, self._tokens)
                tally.add(self._now_s(), used, max(0, used - self._estimate))

    def headers(self) -> RawHeaders:
        """Return the headers of an answer that tell how much is left."""
        return self._limits.headers(self._now_s())
