"""Rate limits: which ones hold for a request, and whether it may begin now. docs/rate-limits.md.

Everything is in memory. A request that may begin gets a permit, which counts it until it is over;
one without any limit gets none and costs a look-up.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from schemas.errors import RateLimited
from schemas.registry import KeyRecord, LimitedRecord, TeamRecord, UserRecord
from schemas.usage import Usage
from services.proxy.headers import RawHeaders
from services.proxy.rate_tally import WINDOW_S, Tally
from services.proxy.routing import Router
from services.runtime.model_names import matches
from services.runtime.registry import RegistrySnapshot

__all__ = ["HELD_RETRY_S", "PLANS_MAX", "Limit", "Permit", "Rates", "tokens_of"]

HELD_RETRY_S = 1
"""`retry-after` where nobody knows when a request that is under way will be over. Claude Code waits
longer from try to try by itself."""
PLANS_MAX = 10_000
"""So many pairs of a key and a model are remembered with their limits, then all are looked up anew
and what counts nothing is forgotten."""
_BYTES_PER_TOKEN = 4

What = Literal["requests", "tokens", "parallel"]
_UNITS: dict[What, str] = {
    "requests": "requests a minute",
    "tokens": "tokens a minute",
    "parallel": "requests at a time",
}


def tokens_of(usage: Usage) -> int:
    """Return all tokens of a request: what was read, from caches too, and what was written."""
    return (
        usage.input_tokens
        + usage.output_tokens
        + usage.cache_read_tokens
        + usage.cache_write_5m_tokens
        + usage.cache_write_1h_tokens
    )


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One limit that holds for a request. `owner` is whose it is, for people: "team blue"."""

    what: What
    maximum: int
    tally: Tally
    owner: str
    model: str | None = None

    @property
    def text(self) -> str:
        """Say what may be, for people."""
        of_model = f" for the model {self.model}" if self.model is not None else ""
        return f"{self.owner}{of_model}: {self.maximum} {_UNITS[self.what]}"


class _Plan(msgspec.Struct, frozen=True):
    """The limits of a key's requests for one model, and what they follow from."""

    key: KeyRecord
    team: TeamRecord | None
    user: UserRecord | None
    router: Router
    limits: tuple[Limit, ...]
    told: tuple[tuple[bytes, bytes], ...]


class Permit:
    """One request that began: it counts until `ended`. Made by Rates."""

    __slots__ = ("_estimate", "_is_held", "_now_s", "_plan")

    def __init__(self, plan: _Plan, estimate: int, now_s: Callable[[], float]) -> None:
        self._plan = plan
        self._estimate = estimate
        self._now_s = now_s
        self._is_held = False

    def began(self, at_s: float) -> None:
        """Count the request, and hold what it is thought to use."""
        for limit in self._plan.limits:
            if limit.what == "requests":
                limit.tally.add(at_s, 1)
        self.again()

    def again(self) -> None:
        """Hold what the request is thought to use: it is sent once more."""
        if self._is_held:
            return
        self._is_held = True
        for limit in self._plan.limits:
            if limit.what != "requests":
                limit.tally.hold(self._estimate if limit.what == "tokens" else 1)

    def ended(self, usage: Usage | None = None) -> None:
        """Count what an attempt used, and hold nothing more. Harmless when repeated."""
        if not self._is_held:
            return
        self._is_held = False
        for limit in self._plan.limits:
            if limit.what == "parallel":
                limit.tally.release(1)
            elif limit.what == "tokens":
                limit.tally.release(self._estimate)
                if usage is not None:
                    limit.tally.add(self._now_s(), tokens_of(usage))

    def headers(self) -> RawHeaders:
        """Return the headers of an answer that tell how much is left."""
        return [*_standing(self._plan.limits, self._now_s()), *self._plan.told]


class Rates:
    """The rate limits of one worker."""

    def __init__(self, registry: RegistrySnapshot, now_s: Callable[[], float]) -> None:
        self._registry = registry
        self._now_s = now_s
        self._plans: dict[tuple[str, str], _Plan] = {}
        self._tallies: dict[tuple[str, str, What, str], Tally] = {}

    def admit(
        self, key: KeyRecord, model_name: str, router: Router, request_bytes: int
    ) -> Permit | None:
        """Return the permit of a request that may begin now; None: no limit holds for it.

        Raises RateLimited. A request may begin while less than each limit counts; its input is
        then held as tokens, a fourth of its bytes, until the answer tells what it used.
        """
        registry = self._registry
        plan = self._plans.get((key.key_id, model_name))
        if (
            plan is None
            or plan.key is not key
            or plan.router is not router
            or registry.teams.get(key.team_id or "") is not plan.team
            or registry.users.get(key.user_id or "") is not plan.user
        ):
            plan = self._make_plan(key, model_name, router)
        if not plan.limits:
            return None
        now_s = self._now_s()
        for limit in plan.limits:
            if limit.tally.level(now_s) >= limit.maximum:
                raise _refusal(plan, now_s)
        permit = Permit(plan, -(-request_bytes // _BYTES_PER_TOKEN), self._now_s)
        permit.began(now_s)
        return permit

    # -------------------------------------------------------------------------------- plans

    def _make_plan(self, key: KeyRecord, model_name: str, router: Router) -> _Plan:
        if len(self._plans) >= PLANS_MAX:
            self._forget()
        team = self._registry.teams.get(key.team_id or "")
        user = self._registry.users.get(key.user_id or "")
        owners: list[tuple[str, str, str, LimitedRecord]] = [
            ("key", key.key_id, key.key_alias or key.key_name, key)
        ]
        if team is not None:
            owners.append(("team", team.team_id, team.team_alias or team.team_id, team))
        if user is not None:
            owners.append(("user", user.user_id, user.user_alias or user.user_id, user))
        target = router.target_of(model_name)
        limits = tuple(
            limit for owner in owners for limit in self._limits(*owner, (model_name, target))
        )
        plan = _Plan(key, team, user, router, limits, tuple(_told(key)))
        self._plans[key.key_id, model_name] = plan
        return plan

    def _limits(
        self, scope: str, scope_id: str, name: str, record: LimitedRecord, models: tuple[str, str]
    ) -> Iterator[Limit]:
        owner = f"{scope} {name}"
        plain: list[tuple[What, int | None]] = [
            ("requests", record.rpm_limit),
            ("tokens", record.tpm_limit),
            ("parallel", record.max_parallel_requests),
        ]
        for what, maximum in plain:
            if maximum is not None:
                tally = self._tally(scope, scope_id, what, "")
                yield Limit(what=what, maximum=maximum, tally=tally, owner=owner)
        by_model: list[tuple[What, dict[str, int]]] = [
            ("requests", record.model_rpm_limit),
            ("tokens", record.model_tpm_limit),
        ]
        for what, maxima in by_model:
            model = _entry_for(maxima, models)
            if model is not None:
                tally = self._tally(scope, scope_id, what, model)
                yield Limit(what=what, maximum=maxima[model], tally=tally, owner=owner, model=model)

    def _tally(self, scope: str, scope_id: str, what: What, model: str) -> Tally:
        name = (scope, scope_id, what, model)
        tally = self._tallies.get(name)
        if tally is None:
            tally = self._tallies[name] = Tally()
        return tally

    def _forget(self) -> None:
        self._plans.clear()
        now_s = self._now_s()
        self._tallies = {name: each for name, each in self._tallies.items() if each.level(now_s)}


def _entry_for(maxima: dict[str, int], models: tuple[str, str]) -> str | None:
    """Return which entry of a limit by model holds: the name, what it stands for, a pattern."""
    if not maxima:
        return None
    for model in models:
        if model in maxima:
            return model
    patterns = sorted((name for name in maxima if "*" in name), key=len, reverse=True)
    for pattern in patterns:
        if any(matches(pattern, model) is not None for model in models):
            return pattern
    return None


def _told(key: KeyRecord) -> Iterator[tuple[bytes, bytes]]:
    if key.rpm_limit is not None:
        yield b"x-litellm-key-rpm-limit", b"%d" % key.rpm_limit
    if key.tpm_limit is not None:
        yield b"x-litellm-key-tpm-limit", b"%d" % key.tpm_limit


def _standing(limits: tuple[Limit, ...], now_s: float) -> RawHeaders:
    """Return the headers about requests and tokens, each of the limit that has the least left."""
    tightest: dict[str, tuple[int, int]] = {}
    for limit in limits:
        if limit.what == "parallel":
            continue
        left = max(0, limit.maximum - limit.tally.level(now_s))
        known = tightest.get(limit.what)
        if known is None or left < known[0]:
            tightest[limit.what] = (left, limit.maximum)
    headers: RawHeaders = []
    for what, (left, maximum) in tightest.items():
        name = b"requests" if what == "requests" else b"tokens"
        headers.append((b"x-ratelimit-limit-" + name, b"%d" % maximum))
        headers.append((b"x-ratelimit-remaining-" + name, b"%d" % left))
    return headers


def _refusal(plan: _Plan, now_s: float) -> RateLimited:
    """Return the refusal by the limit that will have room last."""
    full = [each for each in plan.limits if each.tally.level(now_s) >= each.maximum]
    waits = [each.tally.wait_s(now_s, each.maximum) for each in full]
    longest_s, limit = max(
        ((HELD_RETRY_S if wait_s is None else wait_s), -place, each)
        for place, (wait_s, each) in enumerate(zip(waits, full, strict=True))
    )[::2]
    # A whole minute at most: Claude Code gives up at once where it has to wait longer.
    retry_s = min(WINDOW_S, max(1, -int(-longest_s // 1)))
    headers = {"retry-after": str(retry_s)}
    standing = [*_standing(plan.limits, now_s), *plan.told]
    headers |= {name.decode(): value.decode() for name, value in standing}
    return RateLimited(f"Rate limit of {limit.text}. Try again in {retry_s} s", headers)
