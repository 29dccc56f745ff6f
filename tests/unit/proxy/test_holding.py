"""Which models a request is reckoned with, and which requests count for no budget."""

from decimal import Decimal
from typing import Any

import pytest

from schemas.config import Deployment, GatewayConfig, RouterSettings, Settings
from schemas.errors import Unavailable
from schemas.registry import KeyRecord, TeamRecord
from services.proxy.auth import OwnCredential
from services.proxy.body import read_body
from services.proxy.draft import Draft, Prepared
from services.proxy.holding import check_known, is_uncounted, possible_models
from services.proxy.setup import make_setup

BODY = b'{"model": "m", "max_tokens": 1}'
SEAT = OwnCredential(b"authorization", b"Bearer sk-ant-oat01-x", is_subscription=True)
KEY = KeyRecord(key_id="key", key_hash="0" * 64, key_name="sk-...x", key_alias="alice")


def prepared(own: OwnCredential | None = None, **settings: Any) -> Prepared:
    config = GatewayConfig(
        path="c",
        deployments=(
            Deployment(deployment_id="a", model_name="m", model="claude-one"),
            Deployment(deployment_id="b", model_name="m", model="claude-two"),
            Deployment(deployment_id="c", model_name="claude-*", model="claude-*"),
        ),
        router=RouterSettings(fallbacks={"m": ("claude-dear", "nobody")}),
        settings=Settings(**settings),
    )
    draft = Draft("tg_1", 1, "messages", make_setup(config, "sk-master"), key=KEY, model_name="m")
    return Prepared(draft, b"/v1/messages", [], BODY, read_body(BODY), own)


def test_every_model_that_may_answer_is_reckoned_with() -> None:
    # given a group of two models with a fallback, and one that does not exist, when a request is
    # reckoned with, then by all that there are
    draft = prepared().draft
    group, star = draft.setup.router.find("m")
    assert possible_models(draft, group, star) == ["claude-one", "claude-two", "claude-dear"]


@pytest.mark.parametrize(
    ("own", "counts", "rule", "expected"),
    [
        (SEAT, False, None, True),
        (SEAT, False, "pay", False),
        (SEAT, True, None, False),
        (None, False, None, False),
    ],
)
def test_only_what_a_subscription_pays_may_count_for_no_budget(
    own: OwnCredential | None, *, counts: bool, rule: Any, expected: bool
) -> None:
    # given a setting, when a request comes, then it is left out only where a subscription will pay
    asked = prepared(own, budgets_count_subscriptions=counts)
    asked.draft.on_quota_exhausted = rule
    assert is_uncounted(asked) is expected


def test_a_strict_budget_of_which_nothing_is_known_admits_nothing() -> None:
    # given a worker that was told of no budget yet
    strict = {"strict_budget": True, "max_budget_usd": Decimal(1)}
    team = TeamRecord(team_id="t", team_alias="Blue", **strict)
    # when a team's budget is strict, then its keys wait, and are told why
    with pytest.raises(Unavailable, match="strict budget of team Blue is spent"):
        check_known(KEY, [team])
    # and nobody else does
    check_known(KEY, [TeamRecord(team_id="t", strict_budget=True)])
    check_known(KEY, [])
