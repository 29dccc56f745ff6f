"""What was spent of further windows and of models' budgets, asked of the ledger's reader."""

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal

from schemas.errors import ApiError
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from schemas.rpc import QueryReply
from services.runtime.budget_limits import EVERYBODY, limits_of
from services.runtime.budget_sql import SPEND_OF_BUDGETS

__all__ = ["spend_of_budgets", "spend_of_everybody", "spend_of_members"]

Ask = Callable[[str, Sequence[object]], Awaitable[QueryReply]]


async def spend_of_everybody(ask: Ask, since_us: int, *, with_subscriptions: bool) -> Decimal:
    """Return what counts for the budget of all keys together since then. Raises as `ask` does."""
    everybody = ([0], [EVERYBODY.scope_id], [since_us], [None])
    reply = await ask(SPEND_OF_BUDGETS["global"], (*everybody, since_us, with_subscriptions))
    return Decimal(reply.rows[0][1]) if reply.rows else Decimal(0)


async def spend_of_members(
    ask: Ask, member_ids: Sequence[str], since_us: Sequence[int], *, with_subscriptions: bool
) -> list[Decimal]:
    """Return what counts for members of teams since some moments. Raises as `ask` does."""
    spends = [Decimal(0)] * len(member_ids)
    if not member_ids:
        return spends
    parameters = (
        list(range(len(member_ids))),
        list(member_ids),
        list(since_us),
        [None] * len(member_ids),
        min(since_us),
        with_subscriptions,
    )
    reply = await ask(SPEND_OF_BUDGETS["member"], parameters)
    for place, spent_usd in reply.rows:
        spends[place] = Decimal(spent_usd)
    return spends


async def spend_of_budgets(
    ask: Ask,
    records: Sequence[KeyRecord | TeamRecord | UserRecord],
    now_us: int,
    timezone: str,
    *,
    with_subscriptions: bool,
) -> list[dict[str, Decimal] | None]:
    """Return for each record its spends by the limits of budget ids; None: not known.

    The records are all of one kind. The ledger is asked only where one has such budgets.
    """
    asked = [
        (place, limit)
        for place, record in enumerate(records)
        for limit in limits_of(record)
        if limit.model is not None or limit.budget_id.limit != "max_budget"
    ]
    spends: list[dict[str, Decimal] | None] = [{} for _ in records]
    if not asked:
        return spends
    starts_us = [limit.window(now_us, timezone).start_us for _, limit in asked]
    parameters = (
        list(range(len(asked))),
        [limit.budget_id.scope_id for _, limit in asked],
        starts_us,
        [limit.model for _, limit in asked],
        min(starts_us),
        with_subscriptions,
    )
    try:
        reply = await ask(SPEND_OF_BUDGETS[asked[0][1].budget_id.scope], parameters)
    except ApiError:
        return [None] * len(records)
    for number, spent_usd in reply.rows:
        place, limit = asked[number]
        found = spends[place]
        assert found is not None
        found[limit.budget_id.limit] = Decimal(spent_usd)
    return spends
