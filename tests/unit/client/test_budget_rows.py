"""What is left of a budget, as `tallygate budgets` reckons it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from services.client.budget_rows import GlobalBudget, lines_of, lines_of_all, table_row
from services.client.limited_rows import LimitedRow

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize(("ends_after", "limit"), [(timedelta(seconds=1), 13), (timedelta(0), 10)])
def test_an_increase_counts_until_it_ends(ends_after: timedelta, limit: int) -> None:
    # Given a budget with an increase, when that is in force, or over, then it counts, or not.
    row = LimitedRow(
        spend=Decimal(4),
        max_budget=Decimal(10),
        temp_budget_increase=Decimal(3),
        temp_budget_expiry=(NOW + ends_after).isoformat().replace("+00:00", "Z"),
    )
    (line,) = lines_of("key", "k", "ana", row, NOW)
    assert (line.limit_usd, line.left_usd) == (limit, limit - 4)


@pytest.mark.parametrize(
    ("spend", "limit", "soft", "state"),
    [
        (None, "10", None, "unknown"),
        ("7.999999999999", "10", None, "within"),
        ("8", "10", None, "warned"),
        ("5", "10", "5", "warned"),
        ("5", None, "6", "within"),
        ("10", "10", None, "exceeded"),
        ("11", "10", "5", "exceeded"),
        ("0", "0", None, "exceeded"),
    ],
)
def test_a_budget_stands_where_the_gateway_says_that_it_does(
    spend: str | None, limit: str | None, soft: str | None, state: str
) -> None:
    # Given what was spent of a budget, when it is shown, then its state is that of its events.
    amounts = [None if each is None else Decimal(each) for each in (spend, limit, soft)]
    row = LimitedRow(spend=amounts[0], max_budget=amounts[1], soft_budget=amounts[2])
    (line,) = lines_of("key", "k", "ana", row, NOW)
    assert line.state == state
    assert line.left_usd is None or line.left_usd >= 0
    assert len(table_row(line)) == 7


def test_no_budget_is_no_line() -> None:
    # Given no budget at all, then there is nothing to show.
    assert lines_of("team", "t", "t", LimitedRow(spend=Decimal(5)), NOW) == []
    assert lines_of_all(GlobalBudget()) == []
