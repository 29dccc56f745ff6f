"""Every budget that the management API takes fits the books."""

from decimal import Decimal
from pathlib import Path

import pytest

from schemas.registry import KeyRecord, TeamMember, TeamRecord, UserRecord
from services.admin.money import BUDGET_USD_MAX, budget_problem
from services.ledger.store import Store


@pytest.mark.parametrize("amount", [Decimal("0.000000000001"), Decimal(BUDGET_USD_MAX)])
def test_the_smallest_and_the_largest_budget_are_kept_as_they_are(amount: Decimal) -> None:
    # Given the smallest and the largest amount that are allowed, when a key, a team and a user have
    # it, then the books hold it to the last place, and do not stop at it.
    assert budget_problem(amount) is None
    store = Store(Path(":memory:"))
    store.put_keys(
        [KeyRecord(key_id="k", key_hash="0" * 64, key_name="sk-...a", max_budget_usd=amount)]
    )
    store.put_owners(
        [
            TeamRecord(team_id="t", max_budget_usd=amount, soft_budget_usd=amount),
            UserRecord(user_id="u", max_budget_usd=amount, soft_budget_usd=amount),
        ]
    )
    ask = store.connection.execute
    assert ask("SELECT max_budget_usd FROM keys").fetchall() == [(amount,)]
    for table in ("teams", "users"):
        found = ask(f"SELECT max_budget_usd, soft_budget_usd FROM {table}").fetchall()
        assert found == [(amount, amount)]
    member = TeamMember(user_id="u", role="admin", max_budget_usd=amount)
    team = TeamRecord(team_id="t", members_with_roles=(member, TeamMember(user_id="v")))
    store.put_owners([team, UserRecord(user_id="u", user_role="internal_user", models=("a",))])
    assert ask("SELECT * FROM team_members ORDER BY user_id").fetchall() == [
        ("t", "u", "admin", amount, None),
        ("t", "v", "user", None, None),
    ]
    budgets = "SELECT scope, scope_id, max_budget_usd FROM budgets WHERE scope = 'member'"
    assert ask(budgets).fetchall() == [("member", "t/u", amount)]
    assert ask("SELECT user_role, models FROM users").fetchall() == [("internal_user", ["a"])]
    store.put_owners([TeamRecord(team_id="t", models=("b",)), TeamRecord(team_id="t/u")])
    assert ask(budgets).fetchall() == ask("SELECT * FROM team_members").fetchall() == []
    assert ask("SELECT models FROM teams WHERE team_id = 't'").fetchall() == [(["b"],)]
    store.close()
