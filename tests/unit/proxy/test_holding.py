"""Which models a request is reckoned with, and which requests count for no budget."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from schemas.budgets import BudgetState, Marks, MarksTold
from schemas.config import Deployment, GatewayConfig, RouterSettings, Settings
from schemas.errors import Unavailable
from schemas.registry import KeyRecord, TeamMember, TeamRecord
from services.proxy.auth import OwnCredential
from services.proxy.body import read_body
from services.proxy.draft import Draft, Prepared
from services.proxy.holding import _unknown, is_uncounted, possible_models, wait_known
from services.proxy.marks import MarkBook
from services.proxy.reservations import Reservations
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


def strict_mark(number: int, *, strict: bool) -> MarksTold:
    state = BudgetState(
        scope="team", scope_id="t", name="Blue", spend_usd=Decimal(0), strict=strict
    )
    time = datetime(2026, 11, 24, tzinfo=UTC)
    data = Marks(usage_sequence=number, marks=(state,))
    return MarksTold(source="s", id=str(number), time=time, data=data)


def test_a_strict_budget_of_which_nothing_is_known_admits_nothing() -> None:
    # given a worker that was told of no budget yet, and a team with a strict one
    book = MarkBook()
    reservations = Reservations(book)
    draft = prepared().draft
    draft.owners = (TeamRecord(team_id="t", strict_budget=True, max_budget_usd=Decimal(1)),)
    # A member's budget counts strictly, too, and that of somebody else is not waited for.
    other = TeamMember(user_id="other", max_budget_usd=Decimal(1))
    draft.owners = (msgspec.structs.replace(draft.owners[0], members_with_roles=(other,)),)

    async def run() -> None:
        # when its key asks, then it is told why it has to come again
        with pytest.raises(Unavailable, match="strict budget of team t is spent"):
            await wait_known(reservations, draft)
        # when the ledger is there, and counts the budget, but not strictly yet
        book.take_all([strict_mark(1, strict=False)])
        waiting = asyncio.create_task(wait_known(reservations, draft))
        await asyncio.sleep(0)
        assert not waiting.done()
        # then the request waits for it, and for no more
        assert book.take(strict_mark(2, strict=True))
        async with asyncio.timeout(30):
            await waiting
        # when the key's own user has a budget in the team, then that must be counted, too
        assert draft.key is not None
        draft.key = msgspec.structs.replace(draft.key, user_id="other")
        assert _unknown(reservations, draft) is draft.owners[0]

    asyncio.run(run())
