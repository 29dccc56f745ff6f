"""Which deployment gets a request, and which one after it where that one fails.

The rules, and why they are so, are in docs/routing.md. All of it happens before the first byte of
an answer goes to the client. Nothing that may have been billed is repeated unless `num_retries`
says so; everything is bounded: ATTEMPTS_MAX, WAIT_S_MAX.
"""

import secrets
from collections.abc import Iterator

import msgspec

from schemas.config import Deployment
from schemas.errors import (
    ApiError,
    Forbidden,
    NotFound,
    Unauthenticated,
    Unavailable,
    UpstreamError,
)
from schemas.usage import Usage
from services.proxy import limits
from services.proxy.auth import UpstreamCredential
from services.proxy.draft import Admitted, Prepared, new_request_id, now_us
from services.proxy.headers import RawHeaders, header_values
from services.proxy.health import Health, Trouble, trouble_of
from services.proxy.rate_permit import Permit
from services.proxy.rates import Rates
from services.proxy.routing import Group, model_at, ranked
from services.proxy.seats import SpentSeats

__all__ = ["ATTEMPTS_MAX", "WAIT_S_FIRST", "WAIT_S_MAX", "first_attempt"]

ATTEMPTS_MAX = 12
"""A request is sent so many times at most, whatever the configuration says."""
WAIT_S_FIRST = 0.5
"""The wait before the same deployment is asked again, doubled each time; `retry_after` is more."""
WAIT_S_MAX = 10.0
"""A deployment that cools down for longer than this is not waited for."""

_QUOTA_EXHAUSTED = "quota_exhausted"


class _Stage(msgspec.Struct, frozen=True):
    """One model name that may serve the request: the one asked for, then each fallback."""

    group: Group
    star: str


class _Choice(msgspec.Struct, frozen=True):
    deployment: Deployment
    model: str
    credential: UpstreamCredential


def first_attempt(
    prepared: Prepared, group: Group, star: str, health: Health, seats: SpentSeats, rates: Rates
) -> Admitted:
    """Return the first attempt of a request that has more than one way to go.

    Raises Unauthenticated where no deployment of the group has a credential; Unavailable where
    each has as many requests as it may have; RateLimited where one may have more in a while.
    """
    return _Attempts(prepared, _Stage(group, star), health, seats, rates).first()


class _Attempts:
    """The attempts of one request. Implements Attempts; one attempt is under way at a time."""

    def __init__(
        self, prepared: Prepared, stage: _Stage, health: Health, seats: SpentSeats, rates: Rates
    ) -> None:
        self._prepared = prepared
        self._draft = prepared.draft
        self._router = prepared.draft.setup.router
        self._rules = self._router.settings
        self._health = health
        self._seats = seats
        self._rates = rates
        self._permit: Permit | None = None
        self._pays = prepared.draft.on_quota_exhausted == "pay"
        self._is_paying = False
        # A request without a session goes anywhere, by the weights.
        self._seed = prepared.draft.session_id or secrets.token_hex(8)
        self._stage = stage
        self._further: tuple[_Stage, ...] | None = None
        self._repeats = 0
        self._tried: set[str] = set()
        self._tried_ids: list[str] = []
        self._first_id = prepared.draft.request_id
        self._now: _Choice | None = None
        self.count = 0
        self.wait_s = 0.0

    # ------------------------------------------------------------------------------ choosing

    def first(self) -> Admitted:
        """Return the first attempt: at a deployment that is well, if there is any."""
        usable = self._usable(self._stage)
        choice = None
        if self._pays and (seat := [each for each in usable if _is_seat(each)]):
            usable = seat  # The API key is for what the subscription has no quota for.
            if all(self._seats.is_spent(each.credential.value, each.model) for each in seat):
                choice = self._paid()
        choice = choice or self._well(usable) or self._fallback()
        if choice is None and usable:
            # All cool down. Refusing by our own doing would be worse than trying.
            choice = min(usable, key=lambda each: self._cooling_s(each.deployment))
        if choice is None:
            self._refuse_by_rate()
            raise Unavailable(
                f"The deployments of {self._draft.model_name} have as many requests under way as "
                "they may have (max_parallel_requests)",
                {"retry-after": "1"},
            )
        return self._take(choice)

    def _refuse_by_rate(self) -> None:
        """Raise RateLimited where a rate keeps one from being asked, by the first to have room."""
        found = [self._rates.of_deployment(each) for each in self._stage.group.deployments]
        full = [each for each in found if each is not None and not self._rates.has_room(each)]
        if full:
            raise self._rates.refusal(min(full, key=lambda each: self._rates.wait_s(each)[0]))

    def _has_room(self, deployment: Deployment) -> bool:
        limit = deployment.max_parallel_requests
        if limit is not None and self._health.busy(deployment.deployment_id) >= limit:
            return False
        rates = self._rates.of_deployment(deployment)
        if rates is None or self._draft.endpoint == "count_tokens":
            return True
        return self._rates.has_room(rates)

    def _usable(self, stage: _Stage) -> list[_Choice]:
        """Return a stage's deployments that have a credential and room, the best first.

        Raises Unauthenticated where none has a credential.
        """
        choices: list[_Choice] = []
        refusal: Unauthenticated | None = None
        is_known = False
        for deployment in self._ordered(stage.group):
            try:
                credential = self._prepared.credential(deployment, may_be_own=not self._is_paying)
            except Unauthenticated as error:
                refusal = refusal or error
                continue
            is_known = True
            if self._has_room(deployment):
                choices.append(_Choice(deployment, model_at(deployment, stage.star), credential))
        if refusal is not None and not is_known:
            raise refusal
        return choices

    def _ordered(self, group: Group) -> list[Deployment]:
        order = ranked(group.deployments, self._seed)
        if self._rules.routing_strategy == "least-busy" and self._draft.session_id is None:
            # The sort is stable: equals keep to the order of their weights.
            order.sort(key=self._business)
        return order

    def _business(self, deployment: Deployment) -> tuple[float, float]:
        place = float("inf") if deployment.order is None else deployment.order
        return place, self._health.busy(deployment.deployment_id) / (deployment.weight or 1e-9)

    def _cooling_s(self, deployment: Deployment) -> float:
        return self._health.cooling_s(deployment.deployment_id)

    def _well(self, choices: list[_Choice]) -> _Choice | None:
        """Return the first that was not tried yet and does not cool down."""
        for choice in choices:
            deployment = choice.deployment
            if deployment.deployment_id not in self._tried and not self._cooling_s(deployment):
                return choice
        return None

    def _paid(self) -> _Choice | None:
        """Go over to the deployments' own `api_key`s, where one is well: the request stays there.

        That moves it within the model name alone. Each deployment may be asked once more.
        """
        tried, self._tried, self._is_paying = self._tried, set(), True
        try:
            choice = self._well(self._usable(self._stage))
        except Unauthenticated:
            choice = None  # None of them has one.
        if choice is None:
            self._tried, self._is_paying = tried, False
        else:
            self._seats.paid += 1
        return choice

    def _fallbacks(self, stage: _Stage) -> Iterator[_Stage]:
        """Yield the fallbacks that the key may use, each group of deployments once."""
        seen = {stage.group.name}
        key, owners = self._draft.key, self._draft.owners
        assert key is not None
        for name in self._router.fallbacks_of(self._draft.model_name or "", stage.group):
            try:
                limits.check_model(key, name, self._router.target_of(name), owners)
                group, star = self._router.find(name)
            except (Forbidden, NotFound, Unauthenticated):
                continue
            if group.name not in seen:
                seen.add(group.name)
                yield _Stage(group, star)

    def _fallback(self) -> _Choice | None:
        """Go on to the next fallback that can serve the request, if there is one."""
        if self._further is None:
            self._further = tuple(self._fallbacks(self._stage))
        for place, stage in enumerate(self._further, 1):
            try:
                choice = self._well(self._usable(stage))
            except Unauthenticated:
                continue
            if choice is not None:
                self._stage, self._repeats = stage, 0
                self._further = self._further[place:]
                return choice
        return None

    def _take(self, choice: _Choice) -> Admitted:
        deployment_id = choice.deployment.deployment_id
        self._now = choice
        self._tried.add(deployment_id)
        self._tried_ids.append(deployment_id)
        self.count += 1
        if self.count > 1:
            self._draft.request_id = new_request_id(now_us())
        admitted = self._prepared.admitted(
            choice.deployment, choice.model, choice.credential, is_paid_instead=self._is_paying
        )
        facts = admitted.facts
        if self.count > 1:
            facts = msgspec.structs.replace(facts, attempt_of=self._first_id)
        if self._is_paying:
            facts = msgspec.structs.replace(facts, route_reason=_QUOTA_EXHAUSTED)
        self._health.began(deployment_id)
        rates = self._rates.of_deployment(choice.deployment)
        if rates is not None and self._draft.endpoint != "count_tokens":
            self._permit = self._rates.begin(rates, self._draft.request_bytes)
        return msgspec.structs.replace(admitted, facts=facts, attempts=self)

    # --------------------------------------------------------------- how the present one went

    def succeeded(self) -> None:
        """Note that the present attempt was answered."""
        if self._now is not None:
            self._health.succeeded(self._now.deployment.deployment_id)

    def broke_off(self) -> None:
        """Note that the answer of the present attempt broke off: it goes no other way."""
        self._failed(Trouble.UNCLEAR)

    def used(self, usage: Usage | None) -> None:
        """Note what the present attempt used, before it is over."""
        if self._permit is not None:
            self._permit.ended(usage)

    def over(self) -> None:
        """Note that no attempt is under way any more. Harmless when repeated."""
        permit, self._permit = self._permit, None
        if permit is not None:
            permit.ended()
        choice, self._now = self._now, None
        if choice is not None:
            self._health.ended(choice.deployment.deployment_id)

    def told(self, error: ApiError) -> ApiError:
        """Return an error for the client, with what was tried."""
        if self.count > 1:
            error.message += f" (tried: {', '.join(self._tried_ids)})"
        return error

    def _failed(self, trouble: Trouble, retry_after_s: float | None = None) -> None:
        if self._now is not None:
            deployment_id = self._now.deployment.deployment_id
            self._health.failed(deployment_id, trouble, self._rules, retry_after_s=retry_after_s)

    def after_answer(self, status: int, headers: RawHeaders) -> Admitted | None:
        """Return the attempt to make after an answer of this status, None: it goes on."""
        assert self._now is not None
        trouble = trouble_of(status, is_clients_credential=self._now.credential.is_own)
        if trouble is None:
            return None
        self._failed(trouble, _retry_after_s(headers))
        if trouble is Trouble.OWN_LIMIT and _is_seat(self._now):
            value, model = self._now.credential.value, self._now.model
            return self._next(trouble, is_spent=self._seats.was_refused(value, model, headers))
        return self._next(trouble)

    def after_error(self, error: ApiError) -> Admitted | None:
        """Return the attempt to make after there was no answer, None: the client is told."""
        if not isinstance(error, UpstreamError):
            return None  # Our own doing: all connections are in use.
        trouble = Trouble.UNCLEAR if error.was_sent else Trouble.UNSENT
        self._failed(trouble)
        return self._next(trouble)

    # ------------------------------------------------------------------------- what comes next

    def _next(self, trouble: Trouble, *, is_spent: bool = False) -> Admitted | None:
        before = self._now
        assert before is not None
        self.over()
        retries_max = self._rules.num_retries
        # Counting tokens costs nothing, so it may be repeated whatever happened.
        is_free = trouble.is_unbilled or self._draft.endpoint == "count_tokens"
        if self.count >= ATTEMPTS_MAX or not (is_free or retries_max):
            return None
        self.wait_s = 0.0
        choice = None
        # Another deployment would meet the same limit of the client's, or have somebody else pay.
        if trouble is not Trouble.OWN_LIMIT:
            choice = self._another(before, is_free=is_free) or self._again(before)
        elif is_spent and self._draft.on_quota_exhausted == "refuse":
            return None
        elif is_spent and self._pays:
            choice = self._paid()
        choice = choice or self._fallback()
        if choice is None:
            self._seats.unpaid += is_spent and self._pays
            return None
        return self._take(choice)

    def _another(self, before: _Choice, *, is_free: bool) -> _Choice | None:
        """Return another deployment of the same model name, where the same side pays."""
        if not is_free and self._repeats >= self._rules.num_retries:
            return None
        choice = self._well(self._same_payer(before))
        if choice is not None and not is_free:
            self._repeats += 1
        return choice

    def _again(self, before: _Choice) -> _Choice | None:
        """Return a deployment of the same model name that is asked once more, after a while."""
        if self._repeats >= self._rules.num_retries:
            return None
        choices = self._same_payer(before)
        if not choices:
            return None
        choice = min(choices, key=lambda each: self._cooling_s(each.deployment))
        cooling_s = self._cooling_s(choice.deployment)
        if cooling_s > WAIT_S_MAX:
            return None
        wait_s = max(self._rules.retry_after_s, WAIT_S_FIRST * 2**self._repeats)
        self.wait_s = max(cooling_s, min(wait_s, max(WAIT_S_MAX, self._rules.retry_after_s)))
        self._repeats += 1
        return choice

    def _same_payer(self, before: _Choice) -> list[_Choice]:
        is_own = before.credential.is_own
        return [each for each in self._usable(self._stage) if each.credential.is_own is is_own]


def _is_seat(choice: _Choice) -> bool:
    return choice.credential.billing == "subscription"


def _retry_after_s(headers: RawHeaders) -> float | None:
    """Return the whole seconds that `retry-after` asks for; a date is not taken."""
    values = header_values(headers, b"retry-after")
    if not values or not values[0].isdigit() or len(values[0]) > 9:  # noqa: PLR2004
        return None
    return float(values[0])
