"""Computing the cost of every stored row anew, from its stored usage and the prices in force then.

The rates of each model and day come from the price book; the multiplication is done by DuckDB,
over all rows at once and in whole pico-dollars. So it is not the computation that made the rows.
Rows with `iterations`, and those whose rates are in a finer unit, are worked out one by one.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import duckdb
import msgspec
import pyarrow as pa

from schemas.usage import IterationUsage, Usage
from services.ledger.price_history import PriceEra, price_eras
from services.ledger.repricing import TOO_DEAR_UNPRICED, believed, meant
from services.ledger.request_rows import (
    COST_PICOS_MAX,
    LOST_ERROR_TYPE,
    LOST_UNPRICED,
    PASS_THROUGH_UNPRICED,
    RESULT_UNPRICED,
)
from services.runtime.price_book import Conditions, PriceBook, Rates
from services.runtime.pricing import cost_picos, priced_model

__all__ = ["Mismatch", "differing_costs"]

MISMATCHES_MAX = 20
"""So many rows with another cost are named."""
ROWS_AT_ONCE_MAX = 10_000
_DAY_US = 86_400 * 1_000_000

_PARTS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
_COUNTS = {
    **{f"{part}_cost_usd": f"{part}_tokens * {part}_rate" for part in _PARTS},
    "web_search_cost_usd": "web_search_requests * web_search_rate",
}
_KEYS = ("response_model", "model", "service_tier", "speed", "inference_geo")
_IS_PAID = (
    "endpoint IN ('messages', 'batch_result') AND reason IS NULL "
    f"AND NOT (estimated AND error_type IS NOT DISTINCT FROM '{LOST_ERROR_TYPE}')"
)
_IS_EMPTY = "total_tokens = 0 AND web_search_requests = 0"
_IS_SIMPLE = f"{_IS_PAID} AND iterations IS NULL AND NOT ({_IS_EMPTY})"
_COSTS = ("cost_usd", *_COUNTS)


class Mismatch(NamedTuple):
    """A row whose cost is another one when it is computed anew."""

    request_id: str
    stored_usd: str
    computed: str


def differing_costs(connection: duckdb.DuckDBPyConnection, book: PriceBook) -> list[Mismatch]:
    """Return rows whose stored cost cannot be computed anew, at most MISMATCHES_MAX.

    `book` counts for what came before the first change of prices in the stream.
    To be called in a transaction, so that all of it looks at the same rows.
    """
    found: list[Mismatch] = []
    for rows in _mismatches(connection, book):
        for row in rows:
            found.append(row)
            if len(found) >= MISMATCHES_MAX:
                return found
    return found


def _mismatches(
    connection: duckdb.DuckDBPyConnection, shipped: PriceBook
) -> Iterator[Iterator[Mismatch]]:
    for era in price_eras(connection, shipped):
        if era.repriced is not None:
            yield _missed(connection, era)
        yield _simple(connection, era)
        yield _of_iterations(connection, era)
    yield _stray(connection)
    yield _free(connection)
    yield _unpriced(connection)


def _missed(connection: duckdb.DuckDBPyConnection, era: PriceEra) -> Iterator[Mismatch]:
    """Yield rows that a repricing means and that are priced by an earlier message."""
    assert era.repriced is not None
    assert era.repricing is not None
    with meant(connection, era.book, era.repricing, era.repriced) as (where, parameters):
        found = connection.execute(
            "SELECT request_id, cost_usd::VARCHAR, 'its repricing''s' FROM requests "  # noqa: S608
            f"WHERE {where} AND priced_sequence < ? LIMIT {MISMATCHES_MAX}",
            [*parameters, era.repriced],
        ).fetchall()
    yield from (_mismatch(*row) for row in found)


def _stray(connection: duckdb.DuckDBPyConnection) -> Iterator[Mismatch]:
    """Yield rows that are priced neither by their own message nor by a repricing."""
    found = connection.execute(
        "SELECT request_id, cost_usd::VARCHAR, 'by no repricing that is known' FROM requests "  # noqa: S608
        "WHERE priced_sequence <> stream_sequence AND priced_sequence NOT IN (SELECT "
        f"stream_sequence FROM repricings WHERE applied) LIMIT {MISMATCHES_MAX}"
    ).fetchall()
    yield from (_mismatch(*row) for row in found)


def _simple(connection: duckdb.DuckDBPyConnection, era: PriceEra) -> Iterator[Mismatch]:
    connection.register("proof_rates", _rate_table(connection, era))
    try:
        joined = " AND ".join(f"r.{key} IS NOT DISTINCT FROM t.{key}" for key in _KEYS)
        rows = (
            f"FROM (SELECT * FROM requests WHERE {_IS_SIMPLE} AND {era.rows}) AS r "  # noqa: S608
            f"LEFT JOIN proof_rates AS t ON {joined} AND r.started_at::DATE = t.day "
            "AND r.prompt_tokens > t.above AND r.prompt_tokens <= t.up_to "
        )
        total = " + ".join(f"({count})::HUGEINT" for count in _COUNTS.values())
        differs = " OR ".join(
            f"{_picos(name)} <> ({count})::HUGEINT" for name, count in _COUNTS.items()
        )
        found = connection.execute(
            f"SELECT r.request_id, r.cost_usd::VARCHAR, coalesce(no_price, ({total})::VARCHAR) "  # noqa: S608
            f"{rows} WHERE t.day IS NULL OR NOT t.is_finer AND CASE WHEN no_price IS NOT NULL "
            "THEN r.cost_usd IS NOT NULL OR r.unpriced_reason IS DISTINCT FROM no_price "
            f"WHEN {total} > {COST_PICOS_MAX} THEN r.cost_usd IS NOT NULL "
            f"OR r.unpriced_reason IS DISTINCT FROM '{TOO_DEAR_UNPRICED}' "
            f"ELSE r.cost_usd IS NULL OR {_picos('cost_usd')} <> {total} OR {differs} END "
            f"LIMIT {MISMATCHES_MAX}"
        ).fetchall()
        finer = connection.execute(
            f"SELECT r.request_id, r.cost_usd::VARCHAR, [{', '.join(map(_picos, _COSTS))}], "
            f"{', '.join(f'r.{key}' for key in _KEYS)}, epoch_us(r.started_at), prompt_tokens, "
            f"[{', '.join(f'{part}_tokens' for part in _PARTS)}], web_search_requests "
            f"{rows} WHERE t.is_finer"
        )
        while lines := finer.fetchmany(ROWS_AT_ONCE_MAX):
            found += [line for each in lines for line in _finer(era.book, *each)]
    finally:
        connection.unregister("proof_rates")
    yield from (_mismatch(*row) for row in found)


def _finer(
    book: PriceBook,
    request_id: str,
    stored: str | None,
    picos: list[int | None],
    response_model: str | None,
    model: str | None,
    *rest: Any,
) -> Iterator[tuple[str, str | None, str]]:
    """Yield a row whose rates leave fractions of a pico-dollar, if its cost is another one."""
    *conditions, at_us, prompt, tokens, searches = rest
    named = priced_model(book, response_model, model)
    rates = book.rates_for(named, at_us, Conditions(*conditions))
    assert isinstance(rates, Rates)
    tier = next(
        (each for each in rates.tiers if prompt > each.above_prompt_tokens), rates.tiers[-1]
    )
    five = (tier.input, tier.output, tier.cache_read, tier.cache_write_5m, tier.cache_write_1h)
    amounts = [count * rate for count, rate in zip(tokens, five, strict=True)]
    wanted = [
        whole + (2 * left >= rates.scale)
        for whole, left in (
            divmod(amount, rates.scale) for amount in (*amounts, searches * rates.web_search)
        )
    ]
    if sum(wanted) > COST_PICOS_MAX:
        if stored is not None:
            yield request_id, stored, TOO_DEAR_UNPRICED
    elif picos != [sum(wanted), *wanted]:
        yield request_id, stored, str(sum(wanted))


def _rate_table(connection: duckdb.DuckDBPyConnection, era: PriceEra) -> pa.Table:
    """Return the rates of every model, day and condition that there are, or why there are none."""
    distinct = connection.execute(
        f"SELECT DISTINCT {', '.join(_KEYS)}, started_at::DATE, "  # noqa: S608
        f"epoch_us(started_at::DATE::TIMESTAMP) FROM requests WHERE {_IS_SIMPLE} "
        f"AND {era.rows}"
    )
    names = (*_KEYS, "day", "above", "up_to", *(f"{part}_rate" for part in _PARTS))
    names = (*names, "web_search_rate", "no_price", "is_finer")
    lines: list[tuple[Any, ...]] = []
    while found := distinct.fetchmany(ROWS_AT_ONCE_MAX):
        for *keys, day, at_us in found:
            response_model, model, *conditions = keys
            named = priced_model(era.book, response_model, model)
            rates = era.book.rates_for(named, at_us, Conditions(*conditions))
            lines += [(*keys, day, *rest) for rest in _lines(rates)]
    kinds = [*[pa.string()] * len(_KEYS), pa.date32(), *[pa.int64()] * 8, pa.string(), pa.bool_()]
    columns = list(zip(*lines, strict=True)) or [()] * len(names)
    return pa.table(
        {
            name: pa.array(column, type=kind)
            for name, column, kind in zip(names, columns, kinds, strict=True)
        }
    )


def _lines(rates: Rates | str) -> Iterator[tuple[Any, ...]]:
    """Yield one line for each range of prompts: above, up to, five rates, web search, reason.

    The last cell says that the rates are in a finer unit, too large for SQL: they are not told.
    """
    if isinstance(rates, str) or rates.scale != 1:
        is_finer = not isinstance(rates, str)
        yield (-1, 2**62, 0, 0, 0, 0, 0, 0, None if is_finer else rates, is_finer)
        return
    up_to = 2**62
    for number, tier in enumerate(rates.tiers, 1):
        # The last one is for all that exceed no threshold, an empty prompt included.
        above = tier.above_prompt_tokens if number < len(rates.tiers) else -1
        yield (above, up_to, *tier[1:], rates.web_search, None, False)
        up_to = above


def _free(connection: duckdb.DuckDBPyConnection) -> Iterator[Mismatch]:
    """Yield rows that used nothing, or nothing that is paid for, and cost something."""
    costs = " OR ".join(f"{name} <> 0" for name in _COSTS)
    is_free = f"(NOT ({_IS_PAID}) OR (iterations IS NULL AND {_IS_EMPTY}))"
    found = connection.execute(
        "SELECT request_id, cost_usd::VARCHAR, '0' FROM requests "  # noqa: S608
        f"WHERE {is_free} AND ({costs}) LIMIT {MISMATCHES_MAX}"
    ).fetchall()
    yield from (_mismatch(*row) for row in found)


def _unpriced(connection: duckdb.DuckDBPyConnection) -> Iterator[Mismatch]:
    """Yield rows that are unpriced, or are not, by another rule than that of their kind."""
    found = connection.execute(
        "SELECT request_id, cost_usd::VARCHAR, wanted FROM (SELECT *, CASE "  # noqa: S608
        f"WHEN estimated AND error_type = '{LOST_ERROR_TYPE}' THEN '{LOST_UNPRICED}' "
        f"WHEN endpoint = 'pass_through' AND reason IS NULL THEN '{PASS_THROUGH_UNPRICED}' "
        f"WHEN NOT ({_IS_PAID}) THEN '0' END AS wanted FROM requests) "
        "WHERE wanted IS NOT NULL AND CASE WHEN wanted = '0' THEN cost_usd IS NULL "
        "ELSE cost_usd IS NOT NULL OR unpriced_reason IS DISTINCT FROM wanted END "
        f"OR unpriced <> (cost_usd IS NULL) OR (unpriced_reason IS NULL) = unpriced "
        f"OR (unpriced_reason = '{RESULT_UNPRICED}' "
        f"AND NOT (endpoint = 'batch_result' AND {_IS_EMPTY})) LIMIT {MISMATCHES_MAX}"
    ).fetchall()
    yield from (_mismatch(*row) for row in found)


def _of_iterations(connection: duckdb.DuckDBPyConnection, era: PriceEra) -> Iterator[Mismatch]:
    book = era.book
    decode = msgspec.json.Decoder(tuple[IterationUsage, ...]).decode
    counts = (*(f"{part}_tokens" for part in _PARTS), "web_search_requests", "web_fetch_requests")
    cursor = connection.execute(
        f"SELECT request_id, cost_usd::VARCHAR, [{', '.join(map(_picos, _COSTS))}], "  # noqa: S608
        f"unpriced_reason, response_model, model, epoch_us(started_at), iterations, "
        f"service_tier, speed, inference_geo, {', '.join(counts)} FROM requests "
        f"WHERE {_IS_PAID} AND iterations IS NOT NULL AND {era.rows}"
    )
    while found := cursor.fetchmany(ROWS_AT_ONCE_MAX):
        for request_id, stored, picos, reason, response_model, model, at_us, text, *rest in found:
            tier, speed, geo, *numbers = rest
            usage = Usage(
                **dict(zip(counts, numbers, strict=True)),
                service_tier=tier,
                speed=speed,
                inference_geo=geo,
                iterations=decode(text),
            )
            named = priced_model(book, response_model, model)
            priced = believed(cost_picos(book, usage, named, at_us))
            cost = priced.cost
            wanted = [None] * len(_COSTS) if cost is None else [cost.total, *cost]
            if wanted != picos or reason != priced.unpriced:
                computed = str(cost.total) if cost is not None else str(priced.unpriced)
                yield _mismatch(request_id, stored, computed)


def _picos(name: str) -> str:
    """Return SQL for a stored cost in whole pico-dollars; no digit is rounded."""
    return f"({name}::DECIMAL(31, 12) * 1000000000000::DECIMAL(13, 0))::HUGEINT"


def _mismatch(request_id: str, stored: str | None, computed: str | None) -> Mismatch:
    if computed is not None and computed.isdigit():
        whole = computed.rjust(13, "0")
        computed = f"{whole[:-12]}.{whole[-12:]}"
    return Mismatch(request_id, stored or "unpriced", computed or "a price by the rules")
