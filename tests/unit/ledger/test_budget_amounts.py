"""Every budget that the management API takes fits the books."""

from decimal import Decimal
from pathlib import Path

import pytest

from schemas.registry import KeyRecord, TeamRecord, UserRecord
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
    store.close()
