"""Rate limits: which ones hold for a request, and whether it may begin now. docs/rate-limits.md.

Everything is in memory. A request that may begin gets a permit, which counts it until it is over;
one without any limit gets none and costs a look-up.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import msgspec

from schemas.errors import RateLimited
from schemas.rates import RateWhat
from schemas.registry import KeyRecord, LimitedRecord, TeamRecord, UserRecord
from schemas.usage import Usage
from services.proxy.headers import RawHeaders
from services.proxy.rate_tally import WINDOW_S, Tally, TallyName
from services.proxy.routing import Router
from services.runtime.metrics import Sample, sample
from services.runtime.model_names import matches
from services.runtime.registry import RegistrySnapshot

__all__ = ["HELD_RETRY_S", "PLANS_MAX", "Limit", "Permit", "Rates", "tokens_of"]

HELD_RETRY_S = 1
"""`retry-after` where nobody knows when a request that is under way will be over. Claude Code waits
longer from try to try by itself."""
PLANS_MAX = 10_000
"""So many pairs of a key and a model are remembered with their limits, then all are looked up anew
and what counts nothing is forgotten."""
WORD_WAIT_S_MAX = 0.5
"""A request waits at most so long for what other workers say, where there may be room."""
_BYTES_PER_TOKEN = 4

_UNITS: dict[RateWhat, str] = {
    "requests": "requests a minute",
    "tokens": "tokens a minute",
    "parallel": "requests at a time",
}


_SCOPES = ("key", "team", "user")
_TOLD: tuple[tuple[bytes, RateWhat], ...] = ((b"requests", "requests"), (b"tokens", "tokens"))


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

    what: RateWhat
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
    """The limits of a key's requests for one model, and what they follow from.

    The tallies stand once more by what they count: these are what each request needs.
    """

    key: KeyRecord
    team: TeamRecord | None
    user: UserRecord | None
    router: Router
    limits: tuple[Limit, ...]
    maxima: tuple[tuple[Tally, int], ...]
    requests: tuple[Tally, ...]
    tokens: tuple[Tally, ...]
    parallel: tuple[Tally, ...]
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
        for tally in self._plan.requests:
            tally.add(at_s, 1, 1)
        self.again()

    def again(self) -> None:
        """Hold what the request is thought to use: it is sent once more."""
        if self._is_held:
            return
        self._is_held = True
        for tally in self._plan.parallel:
            tally.hold(1)
        for tally in self._plan.tokens:
            tally.hold(self._estimate)

    def ended(self, usage: Usage | None = None) -> None:
        """Count what an attempt used, and hold nothing more. Harmless when repeated."""
        if not self._is_held:
            return
        self._is_held = False
        for tally in self._plan.parallel:
            tally.release(1)
        for tally in self._plan.tokens:
            tally.release(self._estimate)
            if usage is not None:
                used = tokens_of(usage)
                tally.add(self._now_s(), used, max(0, used - self._estimate))

    def headers(self) -> RawHeaders:
        """Return the headers of an answer that tell how much is left."""
        return _standing(self._plan, self._now_s())


class Rates:
    """The rate limits of one worker, which shares them with others (services.proxy.rate_sharing).

    `workers` is how many share them, `is_cut_off` whether nothing is heard of the others. `changed`
    are the tallies of which they are to be told; `word_wanted` is set where a request waits for
    their word.
    """

    def __init__(self, registry: RegistrySnapshot, now_s: Callable[[], float]) -> None:
        self._registry = registry
        self.now_s = now_s
        self.workers = 1
        self.is_cut_off = False
        self.changed: list[Tally] = []
        self.word_wanted = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._waits = 0
        self._refused: Counter[tuple[str, str]] = Counter()
        self._plans: dict[tuple[str, str], _Plan] = {}
        self._tallies: dict[TallyName, Tally] = {}

    def admit(
        self, key: KeyRecord, model_name: str, router: Router, request_bytes: int
    ) -> Permit | None:
        """Return the permit of a request that may begin now; None: no limit holds for it.

        Raises RateLimited. A request may begin while less than each limit counts; its input is
        then held as tokens, a fourth of its bytes, until the answer tells what it used.
        """
        plan = self._plan(key, model_name, router)
        if not plan.limits:
            return None
        now_s = self.now_s()
        workers = self.workers
        if workers == 1:
            for tally, maximum in plan.maxima:
                if tally.level(now_s) >= maximum:
                    raise self._refusal(plan, now_s)
        else:
            for tally, maximum in plan.maxima:
                if not tally.has_room(now_s, maximum, workers, is_cut_off=self.is_cut_off):
                    raise self._refusal(plan, now_s)
        permit = Permit(plan, -(-request_bytes // _BYTES_PER_TOKEN), self.now_s)
        permit.began(now_s)
        return permit

    async def wait_word(self, key: KeyRecord, model_name: str, router: Router) -> None:
        """Wait a moment where a request may begin once the other workers have heard of others.

        That is where all limits have room and this worker's share of it is used up. To be called
        before `admit` where `workers` is more than 1.
        """
        deadline_s = self.now_s() + WORD_WAIT_S_MAX
        is_waiting = False
        while self._lacks_word(self._plan(key, model_name, router)):
            left_s = deadline_s - self.now_s()
            if left_s <= 0:
                return
            self._waits += not is_waiting
            is_waiting = True
            self.word_wanted.set()
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                async with asyncio.timeout(left_s):
                    await waiter
            except TimeoutError:
                return

    def _lacks_word(self, plan: _Plan) -> bool:
        now_s = self.now_s()
        return (
            not self.is_cut_off
            and all(each.tally.level(now_s) < each.maximum for each in plan.limits)
            and not all(self._has_room(each, now_s) for each in plan.limits)
        )

    def wake(self) -> None:
        """Have all requests that wait for others' word look again."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _has_room(self, limit: Limit, now_s: float) -> bool:
        return limit.tally.has_room(now_s, limit.maximum, self.workers, is_cut_off=self.is_cut_off)

    def _refusal(self, plan: _Plan, now_s: float) -> RateLimited:
        """Return the refusal by the limit that will have room last."""
        longest_s, told = 0.0, plan.limits[0]
        for limit in plan.limits:
            if self._has_room(limit, now_s):
                continue
            wait_s = limit.tally.wait_s(
                now_s, limit.maximum, self.workers, is_cut_off=self.is_cut_off
            )
            wait_s = HELD_RETRY_S if wait_s is None else wait_s
            if wait_s > longest_s:
                longest_s, told = wait_s, limit
        self._refused[told.tally.name[0], told.what] += 1
        # A whole minute at most: Claude Code gives up at once where it has to wait longer.
        retry_s = min(WINDOW_S, max(1, -int(-longest_s // 1)))
        headers = {"retry-after": str(retry_s)}
        standing = _standing(plan, now_s)
        headers |= {name.decode(): value.decode() for name, value in standing}
        return RateLimited(f"Rate limit of {told.text}. Try again in {retry_s} s", headers)

    def samples(self) -> list[Sample]:
        """Return the metrics of rate limits."""
        return [
            sample("tallygate_rate_limit_workers", self.workers),
            sample("tallygate_rate_limit_cut_off", int(self.is_cut_off)),
            sample("tallygate_rate_limit_waits_total", self._waits),
            *(
                # Series that begin at 0 have a first refusal, too, for whoever counts what is new.
                sample("tallygate_rate_limited_total", self._refused[scope, what], scope, what)
                for scope in _SCOPES
                for what in _UNITS
            ),
        ]

    # -------------------------------------------------------------------------------- plans

    def _plan(self, key: KeyRecord, model_name: str, router: Router) -> _Plan:
        registry = self._registry
        plan = self._plans.get((key.key_id, model_name))
        if (
            plan is None
            or plan.key is not key
            or plan.router is not router
            or registry.teams.get(key.team_id or "") is not plan.team
            or registry.users.get(key.user_id or "") is not plan.user
        ):
            return self._make_plan(key, model_name, router)
        return plan

    def _make_plan(self, key: KeyRecord, model_name: str, router: Router) -> _Plan:
        if len(self._plans) >= PLANS_MAX:
            self.forget()
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
        plan = _Plan(
            key,
            team,
            user,
            router,
            limits,
            tuple((each.tally, each.maximum) for each in limits),
            tuple(each.tally for each in limits if each.what == "requests"),
            tuple(each.tally for each in limits if each.what == "tokens"),
            tuple(each.tally for each in limits if each.what == "parallel"),
            tuple(_told(key)),
        )
        self._plans[key.key_id, model_name] = plan
        return plan

    def _limits(
        self, scope: str, scope_id: str, name: str, record: LimitedRecord, models: tuple[str, str]
    ) -> Iterator[Limit]:
        owner = f"{scope} {name}"
        plain: list[tuple[RateWhat, int | None]] = [
            ("requests", record.rpm_limit),
            ("tokens", record.tpm_limit),
            ("parallel", record.max_parallel_requests),
        ]
        for what, maximum in plain:
            if maximum is not None:
                tally = self.tally((scope, scope_id, what, ""))
                yield Limit(what=what, maximum=maximum, tally=tally, owner=owner)
        by_model: list[tuple[RateWhat, dict[str, int]]] = [
            ("requests", record.model_rpm_limit),
            ("tokens", record.model_tpm_limit),
        ]
        for what, maxima in by_model:
            model = _entry_for(maxima, models)
            if model is not None:
                tally = self.tally((scope, scope_id, what, model))
                yield Limit(what=what, maximum=maxima[model], tally=tally, owner=owner, model=model)

    def tally(self, name: TallyName) -> Tally:
        """Return the tally of a limit, a new one where there is none."""
        tally = self._tallies.get(name)
        if tally is None:
            tally = self._tallies[name] = Tally(name, self.changed)
        return tally

    def tallies(self) -> Iterable[Tally]:
        """Return all tallies."""
        return self._tallies.values()

    def knows(self, name: TallyName) -> bool:
        """Tell whether a limit has a tally."""
        return name in self._tallies

    def forget(self) -> None:
        """Forget the tallies that count nothing, and look all limits up anew."""
        self._plans.clear()
        now_s = self.now_s()
        self._tallies = {
            name: each
            for name, each in self._tallies.items()
            if each.level(now_s) or each.others_hold or each.is_changed
        }


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


def _standing(plan: _Plan, now_s: float) -> RawHeaders:
    """Return the headers about requests and tokens, each of the limit that has the least left."""
    headers: RawHeaders = []
    for what, kind in _TOLD:
        tightest: Limit | None = None
        left = 0
        for limit in plan.limits:
            if limit.what == kind:
                rest = limit.maximum - limit.tally.level(now_s)
                if tightest is None or rest < left:
                    tightest, left = limit, rest
        if tightest is not None:
            headers.append((b"x-ratelimit-limit-" + what, b"%d" % tightest.maximum))
            headers.append((b"x-ratelimit-remaining-" + what, b"%d" % max(0, left)))
    headers += plan.told
    return headers
