"""What the page of a request shows of its cost and of its answer is what the ledger has."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.admin.ui.answer_text import said_in
from services.admin.ui.cost_lines import cost_lines
from services.admin.ui.request_events import events_of

_TOKENS = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")
_PRICES = [Decimal(text) for text in ("3", "3.75", "6", "0.30", "15")]


def _book(**cells: Any) -> dict[str, Any]:
    prices = dict(zip((f"{name}_usd_per_mtok" for name in _TOKENS), _PRICES, strict=True))
    return {
        **prices,
        "usd_per_1000_web_searches": Decimal(10),
        "batch_multiplier": Decimal("0.5"),
        "fast_multiplier": None,
        "inference_geo_multipliers": {"us": "1.100000"},
        "multiplier": Decimal("1.000000"),
        **cells,
    }


def _row(counts: tuple[int, ...], searches: int = 0, **cells: Any) -> dict[str, Any]:
    """Return a row whose costs are those of _book's prices, times the row's factor."""
    factor = cells.pop("factor", Decimal(1))
    row: dict[str, Any] = {"service_tier": "standard", "speed": None, "inference_geo": None}
    for name, count, price in zip(_TOKENS, counts, _PRICES, strict=True):
        row[f"{name}_tokens"] = count
        row[f"{name}_cost_usd"] = count * price * factor / 1_000_000
    row["web_search_requests"] = searches
    row["web_search_cost_usd"] = Decimal(searches) / 100
    return row | cells


def test_walkthroughs_request_is_explained_to_the_last_digit() -> None:
    # Given the tutorial's request, when its cost is taken apart, then each line is tokens times
    # price, and the lines are the whole cost.
    lines = cost_lines(_row((2, 0, 39535, 25142, 333)), _book())
    assert [(line.name, line.count, str(line.cost_usd.normalize())) for line in lines] == [
        ("Input", 2, "0.000006"),
        ("Cache write, 1 h", 39535, "0.23721"),
        ("Cache read", 25142, "0.0075426"),
        ("Output", 333, "0.004995"),
    ]
    assert sum(line.cost_usd for line in lines) == Decimal("0.2497536")
    assert [line.price_usd for line in lines] == [Decimal(3), Decimal(6), Decimal("0.3"), 15]
    assert all(line.is_exact and line.is_listed for line in lines)


@given(
    counts=st.tuples(*[st.integers(0, 2_000_000)] * 5),
    searches=st.integers(0, 50),
    tier=st.sampled_from(["standard", "batch"]),
    geo=st.sampled_from([None, "us", "eu"]),
)
def test_lines_are_the_cost_whatever_multiplies_it(
    counts: tuple[int, ...], searches: int, tier: str, geo: str | None
) -> None:
    # Given any request, in a batch or not, in a dear region or not, when its cost is taken apart,
    # then the book's prices with what multiplies them give it, searches without.
    factor = Decimal("0.5" if tier == "batch" else 1) * Decimal("1.1" if geo == "us" else 1)
    row = _row(
        counts,
        searches,
        factor=factor,
        service_tier=tier,
        inference_geo=geo,
    )
    lines = cost_lines(row, _book())
    assert len(lines) == sum(1 for count in (*counts, searches) if count)
    assert all(line.is_listed and line.is_exact for line in lines)
    assert sum(line.cost_usd for line in lines) == sum(
        row[name] for name in row if name.endswith("_cost_usd")
    )
    for line in lines:
        assert line.price_usd is not None
        assert line.price_usd * line.count / line.per == line.cost_usd


def test_price_that_has_changed_since_is_told() -> None:
    # Given a request that was booked at another price, when its cost is taken apart, then the
    # price is what was paid, and the book's is said not to be it; without a book none is.
    row = _row((1_000_000, 0, 0, 0, 0))
    (line,) = cost_lines(row, _book(input_usd_per_mtok=Decimal(5)))
    assert (line.price_usd, line.list_usd, line.is_listed) == (Decimal(3), Decimal(5), False)
    (line,) = cost_lines(row, _book(multiplier=Decimal("0.9")))
    assert (line.factors, line.is_listed) == ((("margin or discount", Decimal("0.9")),), False)
    (line,) = cost_lines(row, None)
    assert (line.price_usd, line.list_usd, line.is_listed) == (Decimal(3), None, False)
    assert cost_lines(_row((0, 0, 0, 0, 0)), _book()) == []


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({}, ["request.started", "first byte", "guardrail.triggered", "usage.recorded"]),
        ({"first_byte_at": None, "status": "refused"},
         ["came in", "guardrail.triggered", "request.rejected"]),
        ({"first_byte_at": None, "error_type": "lost", "status": "failure"},
         ["request.started", "guardrail.triggered", "lost"]),
    ],
)  # fmt: skip
def test_events_are_in_order(cells: dict[str, Any], expected: list[str]) -> None:
    # Given what the ledger keeps of a request, when its events are asked for, then they come in
    # the order in which they happened, each with the message of the stream that holds it.
    began = datetime(2026, 11, 20, 10, tzinfo=UTC)
    row = {
        "started_at": began,
        "first_byte_at": began + timedelta(seconds=1),
        "ended_at": began + timedelta(seconds=3),
        "path": None,
        "endpoint": "messages",
        "model_name": "m",
        "status": "success",
        "reason": None,
        "error_type": None,
        "stop_reason": "end_turn",
        "stream_sequence": 70,
        "producer": "p",
        "producer_sequence": 9,
        "priced_sequence": 80,
    } | cells
    finding = {
        "found_at": began + timedelta(seconds=2),
        "guardrail": "house",
        "action": "mask",
        "rule": "r",
        "category": "c",
        "place": "system",
        "hits": 2,
        "stream_sequence": 69,
        "producer": "p",
        "producer_sequence": 8,
    }
    repricing = {
        "repriced_at": began + timedelta(days=2),
        "reason": "a wrong price",
        "repriced_by": "master_key",
        "applied": True,
        "stream_sequence": 80,
    }
    found = events_of(row, [], [finding], [], [repricing])
    assert [each.name for each in found] == [*expected, "requests.repriced"]
    assert [each.message for each in found if each.message] == [69, 70, 80]
    assert "The cost shown is by these prices" in found[-1].text


def test_streamed_answer_reads_as_text() -> None:
    # Given a stored stream, when it is shown, then its text and its tool calls stand there, also
    # where the end was cut off; what is no stream is shown as it is.
    stream = (
        'event: content_block_start\ndata: {"type":"content_block_start","content_block":'
        '{"type":"text","text":""}}\n\n'
        'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"Hello "}}\n\n'
        'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"you"}}\n\n'
        'data: {"type":"content_block_start","content_block":{"type":"tool_use","name":"Bash"}}\n\n'
        'data: {"type":"content_block_delta","delta":{"partial_json":"{}"}}\n\n'
        'data: {"type":"content_blo'
    )
    assert said_in(stream) == "Hello you\n\n[tool_use Bash] {}"
    assert said_in('{"type":"message"}') == '{"type":"message"}'
    assert said_in("data: 5\n") == "data: 5\n"
