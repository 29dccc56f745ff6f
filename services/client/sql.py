"""`tallygate sql`: ask the ledger."""

import sys
from typing import Any

import msgspec
import rich_click as click

from schemas.rpc import QUERY_ROWS_MAX, Column
from services.client.gateway import ClientError, Gateway
from services.client.options import gateway_options_with_key
from services.client.output import csv_text, note, print_json, print_table

__all__ = ["sql"]

_NUMERIC = ("DECIMAL", "DOUBLE", "FLOAT", "BIGINT", "INTEGER", "HUGEINT", "SMALLINT", "TINYINT")


class _Answer(msgspec.Struct):
    columns: list[Column]
    rows: list[list[Any]]
    truncated: bool = False


@click.command()
@click.argument("query")
@click.option(
    "--format",
    "output",
    type=click.Choice(["table", "json", "csv", "arrow"]),
    default="table",
    show_default=True,
    help="table for people, json (the whole answer), csv and arrow (an IPC stream) for programs.",
)
@click.option("--json", "output", flag_value="json", help="The same as --format json.")
@click.option(
    "--raw",
    is_flag=True,
    help="CSV: leave texts that a spreadsheet would take for formulas as they are.",
)
@click.option(
    "--rows-max",
    type=click.IntRange(1, QUERY_ROWS_MAX),
    default=QUERY_ROWS_MAX,
    show_default=True,
    help="At most so many rows.",
)
@gateway_options_with_key
def sql(
    *,
    query: str,
    output: str,
    raw: bool,
    rows_max: int,
    gateway: Gateway,
) -> None:
    """Run one SELECT over the ledger of a running gateway. A QUERY of - is read from stdin.

    tallygate sql "SELECT key_alias, sum(cost_usd) AS spend FROM requests GROUP BY ALL"
    """
    text = sys.stdin.read() if query == "-" else query
    body = {"query": text, "rows_max": rows_max}
    if output == "arrow":
        _print_arrow(gateway, body)
        return
    content = gateway.post("/ledger/sql", body)
    answer = msgspec.json.decode(content, type=_Answer)
    names = [(column.name, column.type) for column in answer.columns]
    if output == "json":
        print_json(content)
    elif output == "csv":
        sys.stdout.write(csv_text(names, answer.rows, raw=raw))
    else:
        right = frozenset(
            number
            for number, (_, kind) in enumerate(names)
            if kind.lstrip("U").startswith(_NUMERIC)
        )
        print_table([name for name, _ in names], answer.rows, right=right)
    if answer.truncated:
        note(f"note: cut after {len(answer.rows)} rows; there are more")


def _print_arrow(gateway: Gateway, body: dict[str, Any]) -> None:
    """Write an Arrow IPC stream to standard output. Raises ClientError where that is a screen."""
    if sys.stdout.isatty():
        raise ClientError("an Arrow stream is not for a screen: redirect it, as in > answer.arrows")
    content, headers = gateway.post_for("/ledger/sql", body | {"format": "arrow"})
    sys.stdout.buffer.write(content)
    if headers.get("x-tallygate-truncated") == "true":
        note(f"note: cut after {body['rows_max']} rows; there are more")
