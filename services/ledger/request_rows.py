"""The rows of the table `requests`, in the order of its columns. Pure.

Money is in whole pico-dollars here; services.ledger.rows makes exact decimals of it.
"""

from typing import Any

import msgspec

from schemas.client_facts import ClientFacts
from schemas.events import Rejection, RequestFacts, UsageRecord
from schemas.usage import TOKENS_MAX, IterationUsage, Usage
from services.runtime.price_book import PriceBook
from services.runtime.pricing import Cost, cost_picos, priced_model

__all__ = [
    "COST_PICOS_MAX",
    "LOST_ERROR_TYPE",
    "LOST_UNPRICED",
    "PASS_THROUGH_UNPRICED",
    "RESULT_UNPRICED",
    "Poison",
    "checked_cost",
    "lost_row",
    "recorded_row",
    "rejected_row",
]

COST_PICOS_MAX = 10**18 - 1
"""The largest cost that DECIMAL(18,12) holds: a request above 999,999 USD is not believed."""
LOST_ERROR_TYPE = "lost"
LOST_UNPRICED = "what a lost request used is not known"
PASS_THROUGH_UNPRICED = "what a pass-through path costs is not known"  # noqa: S105 - no password
RESULT_UNPRICED = "the usage of this batch result could not be read"
_LOST_BASIS = "its proxy was never heard of again: nothing is known but that it had begun"
_PAID = frozenset({"messages", "batch_result"})
_NO_MONEY: tuple[Any, ...] = (None,) * 7
_NO_CLIENT: tuple[Any, ...] = (None,) * len(ClientFacts.__struct_fields__)
_nothing = Usage()
_free = Cost()
_encoder = msgspec.json.Encoder()

Origin = tuple[str, int, int]
"""Where a row comes from: producer, its number, sequence in the stream."""


class Poison(Exception):
    """An event that must not become a row; the message says why."""


def recorded_row(
    record: UsageRecord, cost: Cost | None, unpriced: str | None, origin: Origin
) -> tuple[Any, ...]:
    """Return the row of a request that is over; its cost comes from `checked_cost`."""
    return _row(record, record.usage or _nothing, cost, unpriced, origin, None)


def rejected_row(data: Rejection, origin: Origin) -> tuple[Any, ...]:
    """Return the row of a refused request: no tokens, no cost. Raises Poison."""
    record = UsageRecord(
        **_facts(data),
        ended_at_us=data.ended_at_us,
        status="refused",
        http_status=data.http_status,
        error_type=data.error_type,
    )
    return _row(record, _nothing, _free, None, origin, data.reason)


def lost_row(facts: RequestFacts, origin: Origin) -> tuple[Any, ...]:
    """Return the row of a request whose end never came: all that is known is how it began."""
    record = UsageRecord(
        **_facts(facts),
        ended_at_us=facts.started_at_us,
        status="failure",
        http_status=0,
        error_type=LOST_ERROR_TYPE,
        estimated=True,
        estimate_basis=_LOST_BASIS,
    )
    return _row(record, _nothing, None, LOST_UNPRICED, origin, None)


def checked_cost(book: PriceBook, record: UsageRecord) -> tuple[Cost | None, str | None]:
    """Return a request's cost, or None and why it has none. Raises Poison for impossible counts."""
    usage = record.usage
    if usage is not None:
        _check(usage)
    if record.endpoint == "pass_through":
        return None, PASS_THROUGH_UNPRICED
    if record.endpoint == "batch_result" and usage is None:
        return None, RESULT_UNPRICED
    if usage is None or record.endpoint not in _PAID:
        return _free, None
    model = priced_model(book, record.response_model, record.model)
    priced = cost_picos(book, usage, model, record.started_at_us)
    if priced.cost is not None and priced.cost.total > COST_PICOS_MAX:
        raise Poison(f"a cost of {priced.cost.total} pico-dollars is not believed")
    return priced.cost, priced.unpriced


def _facts(data: RequestFacts) -> dict[str, Any]:
    return {name: getattr(data, name) for name in RequestFacts.__struct_fields__}


def _check(usage: Usage) -> None:
    """Raise Poison for counts that no model can have."""
    if not (
        0 <= usage.web_search_requests <= TOKENS_MAX
        and 0 <= usage.web_fetch_requests <= TOKENS_MAX
        and _is_believed(usage)
        and (not usage.iterations or all(_is_believed(part) for part in usage.iterations))
    ):
        raise Poison("a token count is negative or impossibly large")


def _is_believed(part: Usage | IterationUsage) -> bool:
    return (
        0 <= part.input_tokens <= TOKENS_MAX
        and 0 <= part.output_tokens <= TOKENS_MAX
        and 0 <= part.cache_read_tokens <= TOKENS_MAX
        and 0 <= part.cache_write_5m_tokens <= TOKENS_MAX
        and 0 <= part.cache_write_1h_tokens <= TOKENS_MAX
    )


def _row(
    record: UsageRecord,
    usage: Usage,
    cost: Cost | None,
    unpriced: str | None,
    origin: Origin,
    reason: str | None,
) -> tuple[Any, ...]:
    """Return the row of a request, in the order of REQUEST_COLUMNS."""
    if not 0 <= record.http_status < 1000:  # noqa: PLR2004
        raise Poison(f"an HTTP status of {record.http_status} does not exist")
    if record.request_bytes > 2**62 or record.response_bytes > 2**62:
        raise Poison("a length of a body is impossibly large")
    started, first, ended = record.started_at_us, record.first_byte_at_us, record.ended_at_us
    prompt = (
        usage.input_tokens
        + usage.cache_read_tokens
        + usage.cache_write_5m_tokens
        + usage.cache_write_1h_tokens
    )
    return (
        record.request_id,
        started,
        first,
        ended,
        max(0, ended - started) // 1000,
        max(0, first - started) // 1000 if first is not None else None,
        record.endpoint,
        record.key_id,
        record.key_alias,
        record.user_id,
        record.team_id,
        record.model_name,
        record.model,
        record.response_model,
        record.deployment,
        record.billing,
        record.stream,
        record.status,
        record.http_status,
        record.error_type,
        reason,
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_5m_tokens,
        usage.cache_write_1h_tokens,
        prompt,
        prompt + usage.output_tokens,
        usage.web_search_requests,
        usage.web_fetch_requests,
        usage.service_tier,
        usage.speed,
        usage.inference_geo,
        _encoder.encode(usage.iterations).decode() if usage.iterations else None,
        *(_NO_MONEY if cost is None else (cost.total, *cost)),
        cost is None,
        unpriced,
        record.estimated,
        record.estimate_basis,
        record.session_id,
        record.user_agent,
        record.stop_reason,
        record.upstream_request_id,
        record.message_id,
        record.request_bytes,
        record.response_bytes,
        *origin,
        origin[2],
        record.path,
        record.batch_id,
        record.custom_id,
        record.attempt_of,
        *(_NO_CLIENT if record.client is None else msgspec.structs.astuple(record.client)),
        record.route_reason,
        record.alias_of,
    )
