"""Waiting for room in a budget, and what a request is told that gets none.

Near a budget's end requests under way may take what is left. One more waits then, for a moment:
most are over soon, or cost less than was reckoned with. Where that is not enough it is refused with
a `retry-after` that Claude Code obeys, so that a person sees it try again, not fail.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from schemas.budgets import BudgetState
from schemas.errors import NotFound, RateLimited, Unauthenticated, Unavailable
from schemas.money import usd_from_picos, usd_text
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from services.proxy.draft import Draft, Prepared, now_us
from services.proxy.limits import budget_refusal, named
from services.proxy.marks import Mark
from services.proxy.reservations import BudgetFull, BudgetOver, Held, Reservations
from services.proxy.routing import Group, model_at
from services.runtime.budget_limits import Limit, limits_of, member_limit, name_of, whose

__all__ = [
    "RETRY_AFTER_S",
    "WAIT_S_MAX",
    "hold",
    "is_uncounted",
    "possible_models",
    "wait_known",
]

WAIT_S_MAX = 2.0
"""A request waits so long for room in its budgets."""
RETRY_AFTER_S = 10
"""`retry-after` of a request that got none: Claude Code waits so long, ten times."""


async def hold(
    reservations: Reservations, marks: Sequence[Mark], prepared: Prepared, models: Sequence[str]
) -> Held:
    """Return what a request holds of its budgets, and set what it reserves of strict ones.

    `marks` are those of its budgets, `models` those that may answer it: the dearest counts. Raises
    BudgetSpent; RateLimited.
    """
    draft = prepared.draft
    key = draft.key
    assert key is not None
    likely_output = reservations.history.likely(key.key_id)
    estimator = reservations.estimator(draft.setup.prices)
    max_tokens = prepared.read.parts.max_tokens
    likely_picos = max(
        estimator.likely_picos(
            model,
            draft.started_at_us,
            body_bytes=len(prepared.body),
            max_tokens=max_tokens,
            likely_output=likely_output,
        )
        for model in models
    )
    loop = asyncio.get_running_loop()
    until_s = loop.time() + WAIT_S_MAX
    has_waited = False
    while True:
        at_us = now_us()
        if draft.reserved_usd is None and any(mark.state.strict for mark in marks):
            bounds = (
                estimator.bound_picos(
                    model, draft.started_at_us, body=prepared.body, max_tokens=max_tokens
                )
                for model in models
            )
            draft.reserved_usd = usd_from_picos(max(bounds))
        try:
            return reservations.take(
                marks,
                key=key,
                model_name=draft.model_name,
                likely_picos=likely_picos,
                book=estimator.book,
                now_us=at_us,
            )
        except BudgetOver as over:
            raise budget_refusal(over.state, at_us, draft.setup.settings.budget_message) from None
        except BudgetFull as full:
            reservations.waits += not has_waited
            has_waited = True
            if not await reservations.wait(until_s - loop.time()):
                reservations.refusals += 1
                raise _no_room(full.state) from None
        marks = reservations.of(key, draft.model_name)


def possible_models(draft: Draft, group: Group, star: str) -> list[str]:
    """Return the models that may answer a request: of its group, and of the group's fallbacks."""
    found = [model_at(each, star) for each in group.deployments]
    router = draft.setup.router
    for name in router.fallbacks_of(draft.model_name or "", group):
        with contextlib.suppress(NotFound, Unauthenticated):
            other, other_star = router.find(name)
            found += [model_at(each, other_star) for each in other.deployments]
    return found


def is_uncounted(prepared: Prepared) -> bool:
    """Tell whether a request counts for no budget: a subscription pays it, and these do not."""
    if prepared.draft.setup.settings.budgets_count_subscriptions:
        return False
    own = prepared.own
    return own is not None and own.is_subscription and prepared.draft.on_quota_exhausted != "pay"


async def wait_known(reservations: Reservations, draft: Draft) -> None:
    """Wait until the ledger counts every strict budget of a request strictly. Raises Unavailable.

    Of a budget that was made, or made strict, a moment ago it tells at once.
    """
    assert draft.key is not None
    loop = asyncio.get_running_loop()
    until_s = loop.time() + WAIT_S_MAX
    while (record := _unknown(reservations, draft)) is not None:
        if not reservations.is_deaf and await reservations.wait(until_s - loop.time()):
            continue
        raise Unavailable(
            f"The gateway does not know yet how much of the strict budget of "
            f"{whose(record).scope} {name_of(record)} is spent (NATS or the ledger is not there). "
            "Try again shortly",
            {"retry-after": "5"},
        )


def _unknown(
    reservations: Reservations, draft: Draft
) -> KeyRecord | TeamRecord | UserRecord | None:
    """Return whose strict budget there is no such word about."""
    assert draft.key is not None
    for record in (draft.key, *draft.owners):
        if record.strict_budget and not all(
            reservations.is_strict(limit.budget_id)
            for limit in _limits(record, draft.key)
            if limit.counts(draft.model_name)
        ):
            return record
    return None


def _limits(record: KeyRecord | TeamRecord | UserRecord, key: KeyRecord) -> list[Limit]:
    """Return the budgets that a record sets for a key: of a team's members that of the key's."""
    limits = list(limits_of(record))
    if isinstance(record, TeamRecord) and key.user_id is not None:
        places = (each for each in record.members_with_roles if each.user_id == key.user_id)
        limits += (limit for each in places if (limit := member_limit(record, each)) is not None)
    return limits


def _no_room(state: BudgetState) -> RateLimited:
    """Return the refusal of a request for which requests under way leave no room."""
    assert state.max_budget_usd is not None
    left = usd_text(max(state.max_budget_usd - state.spend_usd, state.max_budget_usd * 0))
    return RateLimited(
        f"The requests under way may use up the {named(state)} ({left} of "
        f"{usd_text(state.max_budget_usd)} left) · try again in {RETRY_AFTER_S} seconds",
        {"retry-after": str(RETRY_AFTER_S)},
    )
