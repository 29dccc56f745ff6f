"""`tallygate spend`: what was spent at a running gateway: in all, or by whom and on what."""

import sys
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import rich_click as click

from services.client.gateway import Gateway
from services.client.options import csv_option, gateway_options, json_option, raw_option
from services.client.output import csv_text, dollars, note, plain_cell, print_json, print_table

__all__ = ["spend"]

TRUNCATED_HEADER = "x-tallygate-truncated"


class _Global(msgspec.Struct):
    spend: Decimal
    max_budget: Decimal | None = None
    budget_duration: str | None = None


class _Spender(msgspec.Struct):
    """A key or a user."""

    spend: Decimal
    requests: int
    total_tokens: int
    unpriced_requests: int
    user_id: str | None = None
    key_id: str | None = None
    key_alias: str | None = None
    team_id: str | None = None
    user_alias: str | None = None


class _Tag(msgspec.Struct):
    individual_request_tag: str
    log_count: int
    total_spend: Decimal


class _Day(msgspec.Struct, rename={"day": "startTime"}):
    day: str
    spend: Decimal
    models: dict[str, Decimal]
    requests: int
    unpriced_requests: int


class _Line(msgspec.Struct):
    total_tokens: int
    unpriced_requests: int


class _Part(msgspec.Struct):
    """A team, or an end user, on one day."""

    total_spend: Decimal
    metadata: list[_Line]
    team_id: str | None = None
    team_name: str | None = None
    customer: str | None = None


class _ReportDay(msgspec.Struct):
    teams: list[_Part] = []
    customers: list[_Part] = []


class _Table(NamedTuple):
    """Rows to print, with amounts in dollars, and their sums; `total` None: parts overlap."""

    columns: list[str]
    rows: list[list[Any]]
    right: frozenset[int]
    total: Decimal | None
    unpriced: int = 0


class _Report(NamedTuple):
    """The route that has a report, what it is asked beside the period, and what is shown of it."""

    path: str
    query: dict[str, str]
    table: Callable[[bytes], _Table]


def _by_key(content: bytes) -> _Table:
    rows = msgspec.json.decode(content, type=list[_Spender])
    cells = [[row.key_alias, row.user_id, row.team_id, *_sums(row), row.key_id] for row in rows]
    names = ["key", "user", "team", "requests", "tokens", "unpriced", "spend", "id"]
    return _Table(names, cells, frozenset((3, 4, 5, 6)), *_totals(rows))


def _by_user(content: bytes) -> _Table:
    rows = msgspec.json.decode(content, type=list[_Spender])
    cells = [[row.user_id, row.user_alias, *_sums(row)] for row in rows]
    names = ["user", "alias", "requests", "tokens", "unpriced", "spend"]
    return _Table(names, cells, frozenset((2, 3, 4, 5)), *_totals(rows))


def _sums(row: _Spender) -> list[Any]:
    return [row.requests, row.total_tokens, row.unpriced_requests, row.spend]


def _totals(rows: list[_Spender]) -> tuple[Decimal, int]:
    return (
        sum((row.spend for row in rows), Decimal(0)),
        sum(row.unpriced_requests for row in rows),
    )


def _by_tag(content: bytes) -> _Table:
    rows = msgspec.json.decode(content, type=list[_Tag])
    cells = [[row.individual_request_tag, row.log_count, row.total_spend] for row in rows]
    return _Table(["tag", "requests", "spend"], cells, frozenset((1, 2)), None)


def _by_day(content: bytes) -> _Table:
    days = sorted(msgspec.json.decode(content, type=list[_Day]), key=lambda each: each.day)
    cells = [[each.day, each.requests, each.unpriced_requests, each.spend] for each in days]
    total = sum((each.spend for each in days), Decimal(0))
    names = ["day", "requests", "unpriced", "spend"]
    return _Table(names, cells, frozenset((1, 2, 3)), total, _unpriced(days))


def _by_model(content: bytes) -> _Table:
    amounts: dict[str, Decimal] = defaultdict(Decimal)
    days = msgspec.json.decode(content, type=list[_Day])
    for day in days:
        for model, amount_usd in day.models.items():
            amounts[model] += amount_usd
    cells = [[model, amounts[model]] for model in _dearest_first(amounts)]
    total = sum(amounts.values(), Decimal(0))
    return _Table(["model", "spend"], cells, frozenset((1,)), total, _unpriced(days))


def _unpriced(days: list[_Day]) -> int:
    return sum(each.unpriced_requests for each in days)


def _by_team(content: bytes) -> _Table:
    days = msgspec.json.decode(content, type=list[_ReportDay])
    parts = [part for day in days for part in day.teams]
    return _summed(["team", "name"], [((part.team_id, part.team_name), part) for part in parts])


def _by_end_user(content: bytes) -> _Table:
    days = msgspec.json.decode(content, type=list[_ReportDay])
    parts = [part for day in days for part in day.customers]
    return _summed(["end user"], [((part.customer,), part) for part in parts])


def _summed(columns: list[str], parts: list[tuple[tuple[str | None, ...], _Part]]) -> _Table:
    """Return the parts of all days added up by what they are called."""
    amounts: dict[tuple[str | None, ...], Decimal] = defaultdict(Decimal)
    tokens: dict[tuple[str | None, ...], int] = defaultdict(int)
    unpriced: dict[tuple[str | None, ...], int] = defaultdict(int)
    for name, part in parts:
        amounts[name] += part.total_spend
        tokens[name] += sum(line.total_tokens for line in part.metadata)
        unpriced[name] += sum(line.unpriced_requests for line in part.metadata)
    cells = [
        [*name, tokens[name], unpriced[name], amounts[name]] for name in _dearest_first(amounts)
    ]
    first = len(columns)
    return _Table(
        [*columns, "tokens", "unpriced", "spend"],
        cells,
        frozenset((first, first + 1, first + 2)),
        sum(amounts.values(), Decimal(0)),
        sum(unpriced.values()),
    )


def _dearest_first(amounts: dict[Any, Decimal]) -> list[Any]:
    return sorted(amounts, key=lambda name: amounts[name], reverse=True)


_REPORTS = {
    "day": _Report("/spend/logs", {}, _by_day),
    "model": _Report("/spend/logs", {}, _by_model),
    "key": _Report("/spend/keys", {}, _by_key),
    "user": _Report("/spend/users", {}, _by_user),
    "team": _Report("/global/spend/report", {"group_by": "team"}, _by_team),
    "tag": _Report("/spend/tags", {}, _by_tag),
    "end-user": _Report("/global/spend/report", {"group_by": "customer"}, _by_end_user),
}


@click.command()
@click.option(
    "--by",
    type=click.Choice(list(_REPORTS)),
    help="Who spent it, or on what. Without it: all that was ever spent, in one sum; by day where "
    "a period is given.",
)
@click.option("--from", "start_date", help="From this day on (UTC); without it the month's first.")
@click.option("--to", "end_date", help="Until this day (UTC), included; without it today.")
@csv_option
@raw_option
@json_option
@gateway_options
def spend(
    *,
    by: str | None,
    start_date: str | None,
    end_date: str | None,
    as_csv: bool,
    raw: bool,
    as_json: bool,
    gateway: Gateway,
) -> None:
    """Show what was spent, in US dollars: in all, or in a period by whom or on what.

    Requests of models without a known price are in no sum.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json are two formats: give one of them")
    if by is None and start_date is None and end_date is None:
        _show_global(gateway, as_json=as_json, as_csv=as_csv)
        return
    report = _REPORTS[by or "day"]
    end_date = end_date or datetime.now(UTC).date().isoformat()
    start_date = start_date or f"{end_date[:8]}01"
    content, headers = gateway.get_for(
        report.path, start_date=start_date, end_date=end_date, **report.query
    )
    if as_json:
        print_json(content)
    else:
        table = report.table(content)
        _print(table, as_csv=as_csv, raw=raw)
        _note_sums(table, f"{start_date} to {end_date} (UTC)")
    if headers.get(TRUNCATED_HEADER) == "true":
        note("note: the list was cut; there are more: choose a shorter period")


def _show_global(gateway: Gateway, *, as_json: bool, as_csv: bool) -> None:
    content = gateway.get("/global/spend")
    if as_json:
        print_json(content)
        return
    found = msgspec.json.decode(content, type=_Global)
    columns = ["spend ever", "budget of all keys", "period"]
    budget: Any = found.max_budget
    if budget is None and not as_csv:
        budget = "none"
    row = [found.spend, budget, found.budget_duration]
    _print(_Table(columns, [row], frozenset((0, 1)), None), as_csv=as_csv, raw=False)


def _print(table: _Table, *, as_csv: bool, raw: bool) -> None:
    """Print a table: as CSV with exact amounts, for people with a dollar sign."""
    if as_csv:
        kinds = ["DECIMAL" if n in table.right else "VARCHAR" for n in range(len(table.columns))]
        columns = list(zip(table.columns, kinds, strict=True))
        rows = [[plain_cell(cell) for cell in row] for row in table.rows]
        sys.stdout.write(csv_text(columns, rows, raw=raw))
        return
    rows = [
        [dollars(cell) if isinstance(cell, Decimal) else cell for cell in row] for row in table.rows
    ]
    print_table(table.columns, rows, right=table.right)


def _note_sums(table: _Table, period: str) -> None:
    amount = "" if table.total is None else f": {dollars(table.total)} in all"
    note(f"{period}{amount}")
    if table.unpriced:
        note(f"note: {table.unpriced} request(s) without a known price are in no sum")
