"""Which deployments are well: what each worker knows of them, by what it saw itself.

Pure but for the clock, which is passed in. docs/routing.md describes the rules.
"""

import enum
from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet

from schemas.config import RouterSettings

__all__ = ["ALLOWED_FAILS", "COOLDOWN_S_MAX", "WINDOW_S", "Health", "Trouble", "trouble_of"]

ALLOWED_FAILS = 3
"""`allowed_fails` where the file names none, as LiteLLM has it."""
WINDOW_S = 60.0
"""Failures and successes are counted over this time, then anew."""
COOLDOWN_S_MAX = 600.0
"""A deployment that asks for a longer pause (`retry-after`) is tried again after this."""

_TOO_MANY = 429
_OVERLOADED = 529
_TIMEOUT = 408
_SERVER_ERRORS = range(500, 600)


class Trouble(enum.Enum):
    """What went wrong with an attempt, as far as it matters to the next one.

    UNSENT: no connection came about, so nothing of the request was sent.
    LIMITED: 429 for the deployment's own `api_key`. OWN_LIMIT: 429 for the client's credential.
    OVERLOADED: 529. UNCLEAR: it failed and may have been billed all the same.
    """

    UNSENT = enum.auto()
    LIMITED = enum.auto()
    OWN_LIMIT = enum.auto()
    OVERLOADED = enum.auto()
    UNCLEAR = enum.auto()

    @property
    def is_unbilled(self) -> bool:
        """Whether the attempt cannot have been billed: the API charges for messages it makes."""
        return self is not Trouble.UNCLEAR


def trouble_of(status: int, *, is_clients_credential: bool) -> Trouble | None:
    """Return what the status of an answer means; None: it says nothing about the deployment."""
    if status == _TOO_MANY:
        return Trouble.OWN_LIMIT if is_clients_credential else Trouble.LIMITED
    if status == _OVERLOADED:
        return Trouble.OVERLOADED
    if status == _TIMEOUT or status in _SERVER_ERRORS:
        return Trouble.UNCLEAR
    return None


class _State:
    """One deployment. Times are those of the clock that was passed in."""

    __slots__ = (
        "busy",
        "cool_until_s",
        "failures",
        "failures_in_a_row",
        "is_on_trial",
        "successes",
        "window_until_s",
    )

    def __init__(self) -> None:
        self.busy = 0
        self.cool_until_s = 0.0
        self.is_on_trial = False
        self.window_until_s = 0.0
        self.failures = 0
        self.failures_in_a_row = 0
        self.successes = 0

    def roll(self, now_s: float) -> None:
        """Begin a new window where the old one is over."""
        if now_s >= self.window_until_s:
            self.window_until_s = now_s + WINDOW_S
            self.failures = self.failures_in_a_row = self.successes = 0


class Health:
    """The deployments of one worker: which cool down, and how many requests each has.

    A deployment that was cooled down for its failures is on trial afterwards: its next failure
    cools it down again at once, its next success ends the trial.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._states: dict[str, _State] = {}

    def _state(self, deployment_id: str) -> _State:
        state = self._states.get(deployment_id)
        if state is None:
            state = self._states[deployment_id] = _State()
        return state

    def cooling_s(self, deployment_id: str) -> float:
        """Return how long a deployment still cools down; 0: it is well."""
        state = self._states.get(deployment_id)
        return 0.0 if state is None else max(0.0, state.cool_until_s - self._now_s())

    def busy(self, deployment_id: str) -> int:
        """Return how many requests are under way at a deployment."""
        state = self._states.get(deployment_id)
        return 0 if state is None else state.busy

    def began(self, deployment_id: str) -> None:
        """Count a request that begins."""
        self._state(deployment_id).busy += 1

    def ended(self, deployment_id: str) -> None:
        """Count a request that is over."""
        state = self._state(deployment_id)
        state.busy -= 1
        assert state.busy >= 0, "no request ends twice"

    def succeeded(self, deployment_id: str) -> None:
        """Count an answer."""
        state = self._state(deployment_id)
        now_s = self._now_s()
        state.roll(now_s)
        state.successes += 1
        state.failures_in_a_row = 0
        if now_s >= state.cool_until_s:
            state.is_on_trial = False

    def failed(
        self,
        deployment_id: str,
        trouble: Trouble,
        rules: RouterSettings,
        *,
        retry_after_s: float | None = None,
    ) -> None:
        """Count a failure, and cool the deployment down where it was one too many."""
        if trouble is Trouble.OWN_LIMIT or rules.disable_cooldowns:
            return
        state = self._state(deployment_id)
        now_s = self._now_s()
        if trouble is Trouble.LIMITED:
            pause_s = rules.cooldown_s if retry_after_s is None else retry_after_s
            until_s = now_s + min(max(pause_s, 0.0), COOLDOWN_S_MAX)
            state.cool_until_s = max(state.cool_until_s, until_s)
            return
        if now_s < state.cool_until_s:
            return  # Requests that began before: what they say is known.
        state.roll(now_s)
        state.failures += 1
        state.failures_in_a_row += 1
        if not state.is_on_trial and not _is_too_much(state, rules):
            return
        state.cool_until_s = now_s + rules.cooldown_s
        state.is_on_trial = True
        state.window_until_s = 0.0

    def keep(self, deployment_ids: Collection[str]) -> None:
        """Forget all other deployments, but for those with requests under way."""
        self._states = {
            deployment_id: state
            for deployment_id, state in self._states.items()
            if deployment_id in deployment_ids or state.busy
        }

    def renew(self, deployment_ids: AbstractSet[str]) -> None:
        """Forget how these were: other ones stand under their ids. Requests under way count on."""
        for deployment_id in deployment_ids & self._states.keys():
            busy = self._states[deployment_id].busy
            self._states[deployment_id] = _State()
            self._states[deployment_id].busy = busy


def _is_too_much(state: _State, rules: RouterSettings) -> bool:
    if rules.allowed_fails is not None:
        return state.failures > rules.allowed_fails
    # A busy deployment fails now and then; one that is down fails again and again.
    return state.failures_in_a_row > ALLOWED_FAILS or (
        state.failures > ALLOWED_FAILS and state.failures >= state.successes
    )
