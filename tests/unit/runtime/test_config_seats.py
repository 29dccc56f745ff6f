"""`seats:` of the configuration: exact prices, for one person and days each."""

from datetime import date
from decimal import Decimal

import pytest

from schemas.config import SeatPrice
from schemas.errors import ConfigError
from services.runtime.config import read_config

MODELS = """
model_list:
  - model_name: claude-*
    litellm_params: {model: anthropic/*, api_key: sk-ant-api03-test}
"""


def seats(text: str) -> tuple[SeatPrice, ...]:
    return read_config((MODELS + text).encode(), "config.yaml", {}).seats


def test_seats_are_read_exactly() -> None:
    # Given entries for a user and a key, quoted or not, then they are what the file says.
    found = seats(
        "seats:\n"
        "  - {user_id: ana, plan: Max 5x, monthly_usd: 100, valid_to: 2026-12-01}\n"
        "  - {user_id: ana, plan: Max 20x, monthly_usd: '200.10', valid_from: 2026-12-01}\n"
        "  - {key_alias: robot, monthly_usd: 17.5}\n"
    )
    end = date(2026, 12, 1)
    assert found == (
        SeatPrice(user_id="ana", plan="Max 5x", monthly_usd=Decimal(100), valid_to=end),
        SeatPrice(user_id="ana", plan="Max 20x", monthly_usd=Decimal("200.10"), valid_from=end),
        SeatPrice(key_alias="robot", monthly_usd=Decimal("17.5")),
    )
    assert seats("") == ()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{user_id: ana}", "monthly_usd is missing"),
        ("{monthly_usd: 3}", "must name a user_id or a key_alias"),
        ("{user_id: a, key_alias: b, monthly_usd: 3}", "not both"),
        ("{user_id: a, monthly_usd: -3}", "monthly_usd"),
        ("{user_id: a, monthly_usd: 3, valid_from: 2026-12-01, valid_to: 2026-12-01}", "later day"),
        ("{user_id: a, monthly: 3}", "monthly_usd"),
        ("ana", "must be a mapping"),
        ("{user_id: a, monthly_usd: 3}\n  - {user_id: a, monthly_usd: 4}", "the same days"),
    ],
)
def test_what_is_wrong_is_said(entry: str, said: str) -> None:
    # Given an entry that cannot be meant, when the file is read, then the error names its place.
    with pytest.raises(ConfigError, match=said):
        seats(f"seats:\n  - {entry}\n")
