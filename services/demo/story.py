"""The whole story: who there is, what they did, and what budgets they have because of it. Pure."""

import random
from datetime import datetime
from decimal import Decimal

import msgspec

from schemas.events import UsageRecord, us_from_time
from schemas.money import usd_text
from services.demo.company import Change, Company, Standing
from services.demo.history import History, make_draft, spent_since, told
from services.demo.mishaps import budget_refusals
from services.demo.people import SPENT_ALIAS
from services.runtime.durations import budget_window

__all__ = ["TIMEZONE", "Story", "make_company", "make_story"]

TIMEZONE = "UTC"
_BUDGET_REFUSALS_MAX = 12
_WINDOWS = ("1mo", "7d")


class Story(msgspec.Struct, frozen=True):
    """The changes of the registry, and the history, both ready to be published."""

    changes: list[Change]
    history: History


def make_company(seed: int, now: datetime) -> Company:
    """Return the company of a seed: the same people, keys and ids at any moment."""
    return Company(random.Random(seed), now)


def make_story(company: Company, seed: int, requests: int, now: datetime) -> Story:
    """Return a history of exactly so many requests, and the budgets that go with it."""
    rng = random.Random(seed)
    over = min(_BUDGET_REFUSALS_MAX, requests // 50)
    draft = make_draft(rng, company.callers, requests - over, now)
    standing = _standing(draft.records, now)
    spent_key = company.key_id(SPENT_ALIAS)
    last = next(each for each in reversed(draft.records) if each.key_id == spent_key)
    reason = _refusal(company, standing, last)
    now_us = us_from_time(now)
    draft.others += budget_refusals(rng, last, over, reason, now_us)
    return Story(company.changes(standing), told(draft))


def _standing(records: list[UsageRecord], now: datetime) -> Standing:
    """Return what everybody spent in the budget window in which most of it is."""
    standings = []
    for duration in _WINDOWS:
        start_us, _ = budget_window(duration, us_from_time(now), TIMEZONE)
        spent = spent_since(records, start_us)
        standings.append((sum(spent.values()), Standing(duration, spent)))
    return max(standings, key=lambda each: each[0])[1]


def _refusal(company: Company, standing: Standing, last: UsageRecord) -> str:
    """Return what the gateway would have answered, in its own words."""
    key_id = last.key_id or ""
    plan = next(each.plan for each in company.callers if each.key_id == key_id)
    budget = standing.budget("key", key_id, plan.budget_factor or 1.0)
    spent = standing.spent.get(("key", key_id))
    figures = f"{usd_text(spent or Decimal(0))} of {usd_text(budget or Decimal(0))}"
    return (
        f"Budget of key {plan.alias} used up ({figures}) · ask in the channel of the platform "
        "team to have it raised"
    )
