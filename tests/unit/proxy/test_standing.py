"""What answers tell of budgets, and when it is Claude Code's own notice."""

from decimal import Decimal

import pytest

from services.proxy.headers import RawHeaders
from services.proxy.standing import Standing, notice, with_standing

RESETS_US = 1_795_564_800_000_000
UNIFIED = b"anthropic-ratelimit-unified-"
KEY = Standing("key", Decimal(8), Decimal(10), RESETS_US)
TEAM = Standing("team", Decimal("999.5"), Decimal(1000), None)

SEAT: RawHeaders = [
    (b"request-id", b"req_1"),
    (UNIFIED + b"status", b"allowed"),
    (UNIFIED + b"reset", b"1795498669"),
    (UNIFIED + b"representative-claim", b"five_hour"),
    (UNIFIED + b"5h-utilization", b"0.3"),
    (UNIFIED + b"overage-status", b"rejected"),
    (UNIFIED + b"overage-disabled-reason", b"org_level_disabled"),
]


def test_from_three_quarters_on_the_seven_headers_are_told() -> None:
    # given a budget of which 80 % are spent, when an answer comes, then it has the headers that
    # were measured to make Claude Code show it
    assert dict(notice(KEY, [])) == {
        UNIFIED + b"status": b"allowed_warning",
        UNIFIED + b"reset": b"1795564800",
        UNIFIED + b"representative-claim": b"overage",
        UNIFIED + b"overage-status": b"allowed_warning",
        UNIFIED + b"overage-utilization": b"0.8",
        UNIFIED + b"overage-surpassed-threshold": b"0.75",
        UNIFIED + b"overage-reset": b"1795564800",
    }


@pytest.mark.parametrize(
    ("spent", "utilization", "threshold"),
    [
        ("7.4999", None, None),
        ("7.5", b"0.75", b"0.75"),
        ("9.4999", b"0.9499", b"0.75"),
        ("9.5", b"0.95", b"0.95"),
        ("9.999999", b"0.99", b"0.95"),
        ("12", b"0.99", b"0.95"),
    ],
)
def test_thresholds(spent: str, utilization: bytes | None, threshold: bytes | None) -> None:
    # given some spend, when an answer comes, then the part and the threshold passed are told
    told = dict(notice(KEY._replace(spend_usd=Decimal(spent)), []))
    assert told.get(UNIFIED + b"overage-utilization") == utilization
    assert told.get(UNIFIED + b"overage-surpassed-threshold") == threshold


def test_a_calm_subscription_keeps_its_own_windows_beside_the_notice() -> None:
    # given a subscription that warns of nothing, and says that it has no extra usage
    told = with_standing(SEAT, [KEY])
    # when a budget's notice is laid on, then each header of it is there once, nothing that
    # contradicts it is left, and the five-hour window stays for the status line
    names = [name for name, _ in told]
    assert len(names) == len(set(names))
    assert (UNIFIED + b"representative-claim", b"overage") in told
    assert (UNIFIED + b"5h-utilization", b"0.3") in told
    assert UNIFIED + b"overage-disabled-reason" not in names
    assert (b"request-id", b"req_1") in told


@pytest.mark.parametrize("status", [b"allowed_warning", b"rejected"])
def test_what_the_subscription_warns_of_goes_first(status: bytes) -> None:
    # given a subscription near its own wall, when a budget is near its end too
    seat = [(n, status if n == UNIFIED + b"status" else v) for n, v in SEAT]
    told = with_standing(seat, [KEY])
    # then all that the API said passes unchanged, and only the amounts are added
    assert told[: len(seat)] == seat
    assert [name for name, _ in told[len(seat) :]] == [
        b"x-tallygate-budget-remaining-usd",
        b"x-litellm-key-spend",
        b"x-litellm-key-max-budget",
    ]


def test_of_several_budgets_the_tightest_is_shown_and_the_least_left() -> None:
    # given a key with 2 of 10 dollars left and a team with 0.5 of 1000
    told = dict(with_standing([], [KEY, TEAM]))
    # when an answer comes, then the team's standing is shown, which never resets, and its rest; the
    # key's own figures are told as LiteLLM does
    assert told[UNIFIED + b"overage-utilization"] == b"0.99"
    assert UNIFIED + b"overage-reset" not in told
    assert told[b"x-tallygate-budget-remaining-usd"] == b"0.5"
    assert told[b"x-litellm-key-spend"] == b"8"
    assert told[b"x-litellm-key-max-budget"] == b"10"
    # and without a budget of the key's own nothing is said of one, without any budget nothing
    assert b"x-litellm-key-spend" not in dict(with_standing([], [TEAM]))
    assert with_standing(SEAT, []) is SEAT


def test_a_budget_that_was_passed_or_is_nothing_tells_no_negative_rest() -> None:
    # given budgets that are spent, when what is left is told, then it is zero
    over = KEY._replace(spend_usd=Decimal("10.5"), max_budget_usd=Decimal("10.000000000000"))
    told = dict(with_standing([], [over]))
    assert told[b"x-tallygate-budget-remaining-usd"] == b"0"
    assert told[b"x-litellm-key-max-budget"] == b"10"
    nothing = KEY._replace(spend_usd=Decimal(0), max_budget_usd=Decimal(0))
    assert dict(with_standing([], [nothing]))[b"x-tallygate-budget-remaining-usd"] == b"0"
