"""`tallygate sql`: ask the ledger, one question or many."""

import sys

import rich_click as click

from schemas.rpc import QUERY_PARTS_ROWS_MAX, QUERY_ROWS_MAX
from services.client.answers import ask, print_answer, print_arrow
from services.client.gateway import Gateway
from services.client.options import gateway_options_with_key

__all__ = ["sql"]


@click.command()
@click.argument("query", required=False)
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
    type=click.IntRange(1, QUERY_PARTS_ROWS_MAX),
    help=f"At most so many rows. Without it {QUERY_ROWS_MAX}, which is the most but for arrow: "
    f"there {QUERY_PARTS_ROWS_MAX}.",
)
@gateway_options_with_key
def sql(
    *,
    query: str | None,
    output: str,
    raw: bool,
    rows_max: int | None,
    gateway: Gateway,
) -> None:
    """Run one SELECT over the ledger of a running gateway. A QUERY of - is read from stdin.

    Without a QUERY, in a terminal: a shell for many questions, in which .help tells the rest.

    tallygate sql "SELECT key_alias, sum(cost_usd) AS spend FROM requests GROUP BY ALL"
    """
    if query is None:
        _open_shell(
            gateway, output, raw=raw, rows_max=min(rows_max or QUERY_ROWS_MAX, QUERY_ROWS_MAX)
        )
        return
    text = sys.stdin.read() if query == "-" else query
    body = {"query": text} | ({} if rows_max is None else {"rows_max": rows_max})
    if output == "arrow":
        print_arrow(gateway, body)
    else:
        print_answer(ask(gateway, body), output, raw=raw)


def _open_shell(gateway: Gateway, output: str, *, raw: bool, rows_max: int) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError(
            "QUERY is missing: without one this is a shell for a terminal. "
            "A QUERY of - is read from standard input"
        )
    if output == "arrow":
        raise click.UsageError("an Arrow stream is not for a screen: give a QUERY, and redirect it")
    from services.client.shell import SqlShell

    SqlShell(gateway, mode=output, raw=raw, rows_max=rows_max).run()
