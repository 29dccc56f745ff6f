"""How `tallygate top` looks: a screen of tables that fits the terminal. Pure."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.client.output import cell_text, dollars
from services.client.top_figures import Figures, Traffic

__all__ = ["screen"]

_BARS = "▁▂▃▄▅▆▇█"
_TABLE_HEAD_LINES = 2
"""An empty line and the names of the columns."""
_TABLES = 3
_ROWS_MIN = 1
_GAP = (0, 2, 0, 0)
_FIGURE_COLUMNS = [
    "requests",
    "/s",
    "open",
    "failed",
    "refused",
    "prompt",
    "output",
    "ttfb",
    "cost",
]
_LATEST_COLUMNS = ["ended", "status", "output", "ms", "cost", "key", "model", "problem"]
_UNITS = ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k"))


def screen(
    traffic: Traffic, *, url: str, time_of_day: str, lines: int, problem: str | None = None
) -> RenderableType:
    """Return the whole screen, at most `lines` high: all, keys, models and the latest requests.

    `problem` says why the figures are not those of now.
    """
    head = [
        _line(f"tallygate top · {cell_text(url)} · {time_of_day} UTC · q ends", style="bold"),
        _line(cell_text(problem), style="bold red") if problem else _traffic_line(traffic),
        _line(_usage_line(traffic.total)),
        _line(f"{_bars(traffic.per_second)} requests/s"),
    ]
    for_tables = lines - len(head) - 1
    rows = max(for_tables // _TABLES - _TABLE_HEAD_LINES, _ROWS_MIN)
    # What the keys and the models leave free is for the latest requests.
    used = sum(min(rows, len(each)) for each in (traffic.keys, traffic.models))
    latest = max(for_tables - _TABLES * _TABLE_HEAD_LINES - used, _ROWS_MIN)
    return Group(
        *head,
        Text(),
        _figures("key", traffic.keys[:rows]),
        Text(),
        _figures("model", traffic.models[:rows]),
        Text(),
        _latest(traffic, latest),
    )


def short(count: int) -> str:
    """Return a number in at most five characters: 999, 12.3k, 4.5M."""
    for unit, letter in _UNITS:
        if count >= unit:
            part = count / unit
            # 99.95 would be rounded to a hundred, which needs no decimal.
            return f"{part:.1f}{letter}" if part < 99.95 else f"{part:.0f}{letter}"  # noqa: PLR2004
    return str(count)


def _traffic_line(traffic: Traffic) -> Text:
    total = traffic.total
    return _line(
        f"{total.under_way} under way · last {traffic.window_s} s: {total.requests} requests, "
        f"{total.requests_per_s:.1f}/s, {total.failed} failed, {total.refused} refused, "
        f"{total.client_closed} left"
    )


def _usage_line(total: Figures) -> str:
    unpriced = f", {total.unpriced_requests} without a price" if total.unpriced_requests else ""
    return (
        f"{total.prompt_tokens:,} prompt and {total.output_tokens:,} output tokens · "
        f"{dollars(total.cost_usd)}{unpriced}"
    )


def _bars(per_second: Sequence[int]) -> str:
    """Return a column for each second, as high as its requests beside the highest."""
    most = max(per_second, default=0)
    top = len(_BARS) - 1
    return "".join(_BARS[-(-count * top // most)] if count else " " for count in per_second)


def _figures(what: str, rows: Sequence[Figures]) -> Table:
    cells = [
        [
            short(each.requests),
            f"{each.requests_per_s:.1f}",
            short(each.under_way),
            short(each.failed),
            short(each.refused),
            short(each.prompt_tokens),
            short(each.output_tokens),
            "" if each.ttfb_ms_median is None else f"{each.ttfb_ms_median}",
            _rounded(each.cost_usd),
            each.name or "none",
        ]
        for each in rows
    ]
    return _table([*_FIGURE_COLUMNS, what], cells, right=range(len(_FIGURE_COLUMNS)))


def _latest(traffic: Traffic, rows: int) -> Table:
    cells = [
        [
            each.ended,
            each.status if each.status == "success" else f"{each.status} {each.http_status}",
            short(each.output_tokens),
            each.duration_ms,
            "" if each.cost_usd is None else _rounded(each.cost_usd),
            each.key,
            each.model,
            each.problem,
        ]
        for each in traffic.latest[:rows]
    ]
    return _table(_LATEST_COLUMNS, cells, right=range(2, 5))


def _rounded(amount_usd: Decimal) -> str:
    """Return dollars as short as they may be: `--json` has every digit."""
    return f"${amount_usd:.2f}" if amount_usd >= 1 or not amount_usd else f"${amount_usd:.4f}"


def _table(columns: list[str], rows: list[list[Any]], *, right: range) -> Table:
    """Return a table whose figures stay whole: where it is too narrow the names are cut."""
    last_figure = right[-1]
    table = Table(box=None, padding=_GAP, pad_edge=False, header_style="bold")
    for number, name in enumerate(columns):
        justify: Any = "right" if number in right else "left"
        table.add_column(_line(name), justify=justify, no_wrap=number <= last_figure)
    for row in rows:
        table.add_row(*(_line(cell_text(value)) for value in row))
    return table


def _line(text: str, style: str = "") -> Text:
    """Return a text that is cut at the end of its line."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
