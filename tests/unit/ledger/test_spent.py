"""What was spent, asked of the rows: the same as each spend's own rule says."""

import itertools
from decimal import Decimal

import duckdb

from schemas.events import UsageRecord
from services.ledger.spends import SpendQuestion, counted_model
from services.ledger.spent import spends_since
from services.runtime.budget_limits import EVERYBODY, Whose, is_for, member_id

NAMES = (None, "", "opus-4", "opus-", "opus", "xopus-4", "opus-4-fast", "a_c", "abc", "%")
MEMBER = Whose("member", "t%25%2F/u")
PATTERNS = (None, "opus-4", "opus-*", "*-fast", "op*fast", "*", "a_c", "%", "opus-4*4")


def test_rows_are_counted_by_the_rule_of_spends_for_each_owner_window_and_model() -> None:
    # Given requests of all kinds, when many questions are asked at once, then each has the sum
    # that the rules for single spends give, whether what subscriptions paid counts or not.
    rows = [
        (
            f"k{n % 2}",
            "u" if n % 3 else None,
            "t%/",
            name,
            model,
            billing,
            n,
            Decimal(2) ** n,
            [None, "opus-4", "abc"][n % 3],
        )
        for n, (name, model, billing) in enumerate(
            itertools.product(NAMES, (None, "opus-4", "abc"), ("api", "subscription"))
        )
        if n < 60
    ]
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE requests (key_id VARCHAR, user_id VARCHAR, team_id VARCHAR, "
        "model_name VARCHAR, model VARCHAR, response_model VARCHAR, billing VARCHAR, "
        "started_at TIMESTAMP, cost_usd DECIMAL(38, 12), alias_of VARCHAR)"
    )
    connection.executemany(
        "INSERT INTO requests VALUES (?, ?, ?, ?, ?, 'answered', ?, make_timestamp(?), "
        "?::DECIMAL(38, 0) / 1000000000000, ?)",
        [(*row[:7], int(row[7]), row[8]) for row in rows],
    )
    connection.execute("UPDATE requests SET cost_usd = NULL WHERE started_at = make_timestamp(0)")
    whoses = (Whose("key", "k0"), Whose("user", "u"), Whose("team", "t%/"), MEMBER, EVERYBODY)
    questions = [
        SpendQuestion(whose, since_us, pattern)
        for whose in whoses
        for since_us in (0, 20)
        for pattern in PATTERNS
    ]

    def expected(asked: SpendQuestion, *, with_subscriptions: bool) -> int:
        total = 0
        for key_id, user_id, team_id, name, model, billing, at_us, cost, alias_of in rows[1:]:
            owners = {"key": key_id, "user": user_id, "team": team_id, "global": "all"}
            owners["member"] = None if user_id is None else member_id(team_id, user_id)
            record = UsageRecord(
                request_id="r",
                started_at_us=0,
                ended_at_us=0,
                model_name=name,
                model=model,
                response_model="answered",
            )
            counted = counted_model(record)
            assert counted is not None
            if (
                owners[asked.whose.scope] == asked.whose.scope_id
                and at_us >= asked.since_us
                and (with_subscriptions or billing == "api")
                and is_for(asked.model, counted, alias_of)
            ):
                total += int(cost)
        return total

    for with_subscriptions in (True, False):
        found = spends_since(connection, questions, with_subscriptions=with_subscriptions)
        wanted = [expected(each, with_subscriptions=with_subscriptions) for each in questions]
        assert found == wanted
    connection.close()
