"""Budgets as LiteLLM's fields: what a record becomes of them, what is refused, what is shown."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from schemas.errors import BadRequest
from schemas.events import us_from_time
from schemas.registry import BudgetWindow, KeyRecord, ModelBudget, TeamRecord
from services.admin.bodies import UpdateKey
from services.admin.bodies_owners import UpdateTeam
from services.admin.budgets import budgets_shown
from services.admin.owners import changed_owner
from services.admin.reading import decode_body
from services.admin.records import Issue, updated_record

NOW_US = us_from_time(datetime(2026, 11, 25, 12, tzinfo=UTC))
ISSUE = Issue(now_us=NOW_US, by="master_key")
DAY_US = 86_400_000_000


def updated(record: KeyRecord, **fields: Any) -> KeyRecord:
    body = decode_body(msgspec.json.encode({"key": "sk-1", **fields}), UpdateKey, {})
    return updated_record(record, body, ISSUE)


def key(**fields: Any) -> KeyRecord:
    return KeyRecord(key_id="k", key_hash="0" * 64, key_name="n", **fields)


def test_each_field_is_in_the_record_and_null_takes_it_away() -> None:
    # Given LiteLLM's fields, when they are set and taken away again, then the record says so.
    fields: dict[str, Any] = {
        "max_budget": 100,
        "budget_limits": [{"budget_duration": "1d", "max_budget": 10.5}],
        "model_max_budget": {
            "opus-*": {"budget_limit": 0.5, "time_period": "30d"},
            "b": {"max_budget": 1},
        },
        "temp_budget_increase": 50,
        "temp_budget_expiry": "10d",
        "strict_budget": True,
    }
    record = updated(key(), **fields)
    assert record.max_budget_usd == 100
    assert record.budget_limits == (
        BudgetWindow(max_budget_usd=Decimal("10.5"), budget_duration="1d"),
    )
    assert record.model_max_budget == {
        "opus-*": ModelBudget(max_budget_usd=Decimal("0.5"), budget_duration="30d"),
        "b": ModelBudget(max_budget_usd=Decimal(1)),
    }
    assert record.temp_budget_increase_usd == 50
    assert record.temp_budget_expires_at_us == NOW_US + 10 * DAY_US
    assert record.strict_budget
    assert updated(record, key_alias="a").budget_limits == record.budget_limits
    bare = updated(record, **dict.fromkeys(fields))
    assert bare == key(updated_at_us=NOW_US, updated_by="master_key")
    team = TeamRecord(team_id="t")
    body = decode_body(msgspec.json.encode({"team_id": "t", **fields}), UpdateTeam, {})
    assert changed_owner(team, body, ISSUE).model_max_budget == record.model_max_budget


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-12-01", datetime(2026, 12, 1, tzinfo=UTC)),
        ("2026-12-01T18:00:00Z", datetime(2026, 12, 1, 18, tzinfo=UTC)),
        ("2026-12-01T18:00:00+02:00", datetime(2026, 12, 1, 16, tzinfo=UTC)),
        ("1h", datetime(2026, 11, 25, 13, tzinfo=UTC)),
    ],
)
def test_an_increase_ends_at_a_time_or_after_one(text: str, at: datetime) -> None:
    # Given a day, a time or a duration, then that is when the budget falls back.
    record = updated(
        key(max_budget_usd=Decimal(1)), temp_budget_increase=1, temp_budget_expiry=text
    )
    assert record.temp_budget_expires_at_us == us_from_time(at)


def test_what_belongs_together_of_an_increase_stays_together() -> None:
    # Given an increase, when the budget, the amount or the end is taken away, then all of it goes.
    raised = key(
        max_budget_usd=Decimal(1),
        temp_budget_increase_usd=Decimal(2),
        temp_budget_expires_at_us=NOW_US + DAY_US,
    )
    for name in ("max_budget", "temp_budget_increase", "temp_budget_expiry"):
        record = updated(raised, **{name: None})
        assert record.temp_budget_increase_usd is record.temp_budget_expires_at_us is None
    again = updated(raised, temp_budget_increase=3)
    assert again.temp_budget_expires_at_us == NOW_US + DAY_US


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"temp_budget_increase": 1}, "temp_budget_expiry", "needs temp_budget_expiry"),
        ({"temp_budget_expiry": "1d"}, "temp_budget_increase", "by how much"),
        (
            {"temp_budget_increase": 1, "temp_budget_expiry": "2026-11-25"},
            "temp_budget_expiry",
            "later than now",
        ),
        (
            {"temp_budget_increase": 1, "temp_budget_expiry": "soon"},
            "temp_budget_expiry",
            "such as 2026-12-01",
        ),
        ({"temp_budget_increase": -1}, "temp_budget_increase", "negative"),
        (
            {"budget_limits": [{"budget_duration": "1x", "max_budget": 1}]},
            "budget_limits",
            "budget_limits[0].budget_duration: a duration is",
        ),
        (
            {
                "budget_limits": [
                    {"budget_duration": "24h", "max_budget": 1},
                    {"budget_duration": "daily", "max_budget": 2},
                ]
            },
            "budget_limits",
            "a window of this length before it",
        ),
        ({"budget_limits": [{"budget_duration": "1d"}]}, "budget_limits", "max_budget"),
        (
            {"budget_limits": [{"budget_duration": "1d", "max_budget": 1, "soft": 1}]},
            "budget_limits",
            "unknown field",
        ),
        ({"model_max_budget": {"m": {}}}, "model_max_budget", "give budget_limit"),
        (
            {"model_max_budget": {"m": {"budget_limit": 1, "max_budget": 1}}},
            "model_max_budget",
            "each once",
        ),
        ({"model_max_budget": {"a*b*": {"budget_limit": 1}}}, "model_max_budget", "one *"),
        (
            {"model_max_budget": {"m": {"budget_limit": 1, "time_period": "2mo"}}},
            "model_max_budget",
            "there is only 1mo",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_its_field(
    fields: dict[str, Any], param: str, words: str
) -> None:
    # Given budgets that contradict themselves, when they are set, then the field is named.
    with pytest.raises(BadRequest) as raised:
        updated(key(max_budget_usd=Decimal(1)), **fields)
    assert raised.value.param == param
    assert words in raised.value.message


def test_usage_is_shown_for_each_budget_and_unknown_is_not_nothing() -> None:
    # Given a record with further budgets, when spend is known of one, of none, or not at all.
    record = updated(
        key(),
        budget_limits=[{"budget_duration": "1d", "max_budget": 10}],
        model_max_budget={"m": {"budget_limit": 1}},
    )
    shown = budgets_shown(record, {"window-1d": Decimal("2.50")}, NOW_US, "UTC")
    text = msgspec.json.Encoder(decimal_format="number").encode(shown)
    known = msgspec.json.decode(text)
    assert known["budget_limits"] == [
        {"budget_duration": "1d", "max_budget": 10, "reset_at": "2026-11-26T00:00:00Z"}
    ]
    assert known["budget_limits_usage"] == {
        "1d": {"current_spend": 2.5, "reset_at": "2026-11-26T00:00:00Z"}
    }
    assert known["model_max_budget"] == {"m": {"budget_limit": 1, "time_period": None}}
    assert known["model_max_budget_usage"] == {"m": {"current_spend": 0, "reset_at": None}}
    unknown = budgets_shown(record, None, NOW_US, "UTC")
    assert unknown["budget_limits_usage"]["1d"].current_spend is None
