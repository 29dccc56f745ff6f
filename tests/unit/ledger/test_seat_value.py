"""The value of a seat: what its requests would have cost beside its price, each once."""

from datetime import date
from decimal import Decimal
from pathlib import Path

from schemas.config import SeatPrice
from schemas.events import UsageRecord
from schemas.usage import Usage
from services.ledger.projection import Projected
from services.ledger.request_rows import recorded_row
from services.ledger.store import Store
from services.runtime.pricing import Cost

NOVEMBER_US = 1_795_478_400_000_000
DAY_US = 86_400_000_000
DOLLAR = 10**12


def row(number: int, days: int, billing: str, user: str | None, alias: str, usd: int) -> object:
    at_us = NOVEMBER_US + days * DAY_US
    record = UsageRecord(
        request_id=f"tg_{number}",
        started_at_us=at_us,
        ended_at_us=at_us,
        billing="subscription" if billing == "subscription" else "api",
        user_id=user,
        key_alias=alias,
        usage=Usage(),
    )
    return recorded_row(record, Cost(input=usd * DOLLAR), None, ("p", number, number))


def test_a_seat_is_worth_what_its_own_days_would_have_cost(tmp_path: Path) -> None:
    # Given the seat of a person whose price rises on 1 December, one that is not used, and paid
    # requests beside, when the value is asked for, then each request counts for one entry at most.
    store = Store(tmp_path / "ledger.duckdb")
    rows = [
        row(1, 0, "subscription", "ana", "laptop", 70),
        row(2, 1, "subscription", "ana", "desk", 50),
        row(3, 10, "subscription", "ana", "desk", 30),
        row(4, 1, "api", "ana", "desk", 900),
        row(5, 1, "subscription", "bob", "desk", 400),
        row(6, 1, "subscription", None, "robot", 7),
    ]
    projected = Projected(sequence=6, requests=rows)  # type: ignore[arg-type]
    store.commit("USAGE", "now", projected)
    december = date(2026, 12, 1)
    seats = [
        SeatPrice(user_id="ana", plan="Max", monthly_usd=Decimal(100), valid_to=december),
        SeatPrice(user_id="ana", plan="Max", monthly_usd=Decimal(200), valid_from=december),
        SeatPrice(key_alias="robot", monthly_usd=Decimal("17.5")),
        SeatPrice(user_id="eve", monthly_usd=Decimal(20)),
    ]
    store.put_seats([SeatPrice(user_id="old", monthly_usd=Decimal(1))])
    store.put_seats(seats)
    found = store.connection.execute(
        "SELECT strftime(month, '%Y-%m'), coalesce(user_id, key_alias), monthly_usd::DOUBLE, "
        "api_equivalent_usd::DOUBLE, saved_usd::DOUBLE, requests FROM seat_value "
        "WHERE month BETWEEN '2026-11-01' AND '2026-12-01' ORDER BY ALL"
    ).fetchall()
    assert found == [
        ("2026-11", "ana", 100.0, 120.0, 20.0, 2),
        ("2026-11", "eve", 20.0, 0.0, -20.0, 0),
        ("2026-11", "robot", 17.5, 7.0, -10.5, 1),
        ("2026-12", "ana", 200.0, 30.0, -170.0, 1),
        ("2026-12", "eve", 20.0, 0.0, -20.0, 0),
        ("2026-12", "robot", 17.5, 0.0, -17.5, 0),
    ]
    sums = store.connection.execute(
        "SELECT sum(paid_usd)::DOUBLE, sum(api_equivalent_usd)::DOUBLE FROM spend_by_billing_day"
    ).fetchall()
    assert sums == [(900.0, 557.0)]
    store.close()
