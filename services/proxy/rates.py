"""Rate limits: which ones hold for a request, and whether it may begin now. docs/rate-limits.md.

Everything is in memory. A request that may begin gets a permit, which counts it until it is over;
one without any limit gets none and costs a look-up.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from schemas.config import Deployment, RateLimitTokens
from schemas.errors import RateLimited
from schemas.rates import RateWhat
from schemas.registry import KeyRecord, LimitedRecord, TeamRecord, UserRecord
from services.proxy.rate_permit import RATE_UNITS, Limit, Limits, Permit
from services.proxy.rate_tally import WINDOW_S, Tally, TallyName
from services.proxy.routing import Router
from services.runtime.metrics import Sample, sample
from services.runtime.model_names import matches
from services.runtime.registry import RegistrySnapshot

__all__ = ["HELD_RETRY_S", "PLANS_MAX", "Rates"]

HELD_RETRY_S = 1
"""`retry-after` where nobody knows when a request that is under way will be over. Claude Code waits
longer from try to try by itself."""
PLANS_MAX = 10_000
"""So many pairs of a key and a model are remembered with their limits, then all are looked up anew
and what counts nothing is forgotten."""
WORD_WAIT_S_MAX = 0.5
"""A request waits at most so long for what other workers say, where there may be room."""

_TOLD_OF_KEYS: dict[RateWhat, tuple[bytes, bytes]] = {
    what: (
        b"x-ratelimit-api_key-limit-" + what.encode(),
        b"x-ratelimit-api_key-remaining-" + what.encode(),
    )
    for what in ("requests", "tokens")
}
"""LiteLLM's headers about a key's own limits."""
_SCOPES = ("key", "team", "user", "model")


class _Plan(msgspec.Struct, frozen=True):
    """The limits of a key's requests for one model, and what they follow from."""

    key: KeyRecord
    team: TeamRecord | None
    user: UserRecord | None
    router: Router
    limits: Limits


class Rates:
    """The rate limits of one worker, which shares them with others (services.proxy.rate_sharing).

    `tokens` tells which tokens count. `workers` is how many share the limits, `is_cut_off` whether
    nothing is heard of the others. `changed` are the tallies of which they are to be told;
    `word_wanted` is set where a request waits for their word.
    """

    def __init__(
        self,
        registry: RegistrySnapshot,
        now_s: Callable[[], float],
        tokens: Callable[[], RateLimitTokens] = lambda: "all",
    ) -> None:
        self._registry = registry
        self.now_s = now_s
        self._tokens = tokens
        self.workers = 1
        self.is_cut_off = False
        self.changed: list[Tally] = []
        self.word_wanted = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._waits = 0
        self._refused: Counter[tuple[str, str]] = Counter()
        self._plans: dict[tuple[str, str], _Plan] = {}
        self._of_deployments: dict[str, tuple[Deployment, Limits | None]] = {}
        self._tallies: dict[TallyName, Tally] = {}

    def admit(
        self, key: KeyRecord, model_name: str, router: Router, request_bytes: int
    ) -> Permit | None:
        """Return the permit of a request that may begin now; None: no limit holds for it.

        Raises RateLimited. A request may begin while less than each limit counts; its input is
        then held as tokens, by its bytes, until the answer tells what it used.
        """
        limits = self._plan(key, model_name, router).limits
        if not limits.all:
            return None
        now_s = self.now_s()
        workers = self.workers
        if workers == 1:
            for tally, maximum in limits.maxima:
                if tally.level(now_s) >= maximum:
                    raise self.refusal(limits)
        elif not self.has_room(limits):
            raise self.refusal(limits)
        return self.begin(limits, request_bytes)

    def has_room(self, limits: Limits) -> bool:
        """Tell whether a request may begin now."""
        now_s, workers, is_cut_off = self.now_s(), self.workers, self.is_cut_off
        return all(
            tally.has_room(now_s, maximum, workers, is_cut_off=is_cut_off)
            for tally, maximum in limits.maxima
        )

    def begin(self, limits: Limits, request_bytes: int) -> Permit:
        """Count a request that begins now, and return what ends it."""
        permit = Permit(limits, request_bytes, self._tokens(), self.now_s)
        permit.began(self.now_s())
        return permit

    # --------------------------------------------------------------------------- waiting

    async def wait_word(self, key: KeyRecord, model_name: str, router: Router) -> None:
        """Wait a moment where a request may begin once the other workers have heard of others.

        That is where all limits have room and this worker's share of it is used up. To be called
        before `admit` where `workers` is more than 1.
        """
        await self._wait(lambda: self._lacks_word(self._plan(key, model_name, router).limits))

    async def wait_deployments(self, deployments: Sequence[Deployment]) -> None:
        """Do the same where no deployment has room for this worker, and one may have it soon."""

        def lacks_word() -> bool:
            found = [self.of_deployment(each) for each in deployments]
            limits = [each for each in found if each is not None]
            return (
                len(limits) == len(found)
                and not any(self.has_room(each) for each in limits)
                and any(self._lacks_word(each) for each in limits)
            )

        await self._wait(lacks_word)

    async def _wait(self, lacks_word: Callable[[], bool]) -> None:
        if not lacks_word():
            return
        self._waits += 1
        deadline_s = self.now_s() + WORD_WAIT_S_MAX
        while lacks_word() and (left_s := deadline_s - self.now_s()) > 0:
            self.word_wanted.set()
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                async with asyncio.timeout(left_s):
                    await waiter
            except TimeoutError:
                return

    def _lacks_word(self, limits: Limits) -> bool:
        now_s = self.now_s()
        return (
            not self.is_cut_off
            and all(tally.level(now_s) < maximum for tally, maximum in limits.maxima)
            and not self.has_room(limits)
        )

    def wake(self) -> None:
        """Have all requests that wait for others' word look again."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    # ---------------------------------------------------------------------------- telling

    def wait_s(self, limits: Limits) -> tuple[float, Limit]:
        """Return when there is room again, and the limit that has it last."""
        now_s, workers, is_cut_off = self.now_s(), self.workers, self.is_cut_off
        longest_s, last = 0.0, limits.all[0]
        for limit in limits.all:
            tally, maximum = limit.tally, limit.maximum
            if tally.has_room(now_s, maximum, workers, is_cut_off=is_cut_off):
                continue
            wait_s = tally.wait_s(now_s, maximum, workers, is_cut_off=is_cut_off)
            wait_s = HELD_RETRY_S if wait_s is None else wait_s
            if wait_s > longest_s:
                longest_s, last = wait_s, limit
        return longest_s, last

    def refusal(self, limits: Limits) -> RateLimited:
        """Return the refusal of a request that has no room, by the limit that has it last."""
        longest_s, told = self.wait_s(limits)
        self._refused[told.tally.name[0], told.what] += 1
        # A whole minute at most: Claude Code gives up at once where it has to wait longer.
        retry_s = min(WINDOW_S, max(1, -int(-longest_s // 1)))
        headers = {"retry-after": str(retry_s)}
        standing = limits.headers(self.now_s())
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
                for what in RATE_UNITS
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
        limits = Limits.of(
            (limit for owner in owners for limit in self._limits(*owner, (model_name, target))),
            _told(key),
        )
        plan = _Plan(key, team, user, router, limits)
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
                told_as = _TOLD_OF_KEYS.get(what) if scope == "key" else None
                yield Limit(what=what, maximum=maximum, tally=tally, owner=owner, told_as=told_as)
        by_model: list[tuple[RateWhat, dict[str, int]]] = [
            ("requests", record.model_rpm_limit),
            ("tokens", record.model_tpm_limit),
        ]
        for what, maxima in by_model:
            model = _entry_for(maxima, models)
            if model is not None:
                tally = self.tally((scope, scope_id, what, model))
                yield Limit(what=what, maximum=maxima[model], tally=tally, owner=owner, model=model)

    def of_deployment(self, deployment: Deployment) -> Limits | None:
        """Return the limits of a deployment itself, None: it has none."""
        known = self._of_deployments.get(deployment.deployment_id)
        if known is None or known[0] is not deployment:
            known = deployment, self._own_limits(deployment)
            self._of_deployments[deployment.deployment_id] = known
        return known[1]

    def _own_limits(self, deployment: Deployment) -> Limits | None:
        maxima: list[tuple[RateWhat, int | None]] = [
            ("requests", deployment.rpm),
            ("tokens", deployment.tpm),
        ]
        owner = f"model {deployment.model_name}"
        found = [
            Limit(
                what=what,
                maximum=maximum,
                tally=self.tally(("model", deployment.deployment_id, what, "")),
                owner=owner,
            )
            for what, maximum in maxima
            if maximum is not None
        ]
        return Limits.of(found) if found else None

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
        self._of_deployments.clear()
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
