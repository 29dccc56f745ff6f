"""`tallygate logs`: requests in a running gateway's ledger, and what each cost."""

from decimal import Decimal
from typing import Any

import msgspec
import rich_click as click
from click.core import ParameterSource

from services.client.csv_stream import print_csv
from services.client.gateway import Gateway
from services.client.key_rows import resolve_key
from services.client.options import gateway_options, json_option, raw_option
from services.client.output import dollars, note, print_json, print_table

__all__ = ["logs"]

_COLUMNS = [
    "started", "request", "key", "user", "team", "model", "status", "prompt", "output", "ms", "cost"
]  # fmt: skip
_PAGE_SIZE_MAX = 100
_SORTS = {
    "start": "startTime",
    "end": "endTime",
    "cost": "spend",
    "tokens": "total_tokens",
    "duration": "request_duration_ms",
}


class _Metadata(msgspec.Struct):
    user_api_key_alias: str | None = None
    tallygate_status: str | None = None


class _Log(msgspec.Struct, rename={"start_time": "startTime"}):
    request_id: str
    start_time: str
    status: str
    metadata: _Metadata
    prompt_tokens: int
    completion_tokens: int
    spend: Decimal | None = None
    request_duration_ms: int | None = None
    model: str | None = None
    model_group: str | None = None
    user: str | None = None
    team_id: str | None = None


class _Page(msgspec.Struct):
    data: list[_Log]
    total: int


@click.command()
@click.option("--key", help="Of this key: its alias, its id, its SHA-256, or the key itself.")
@click.option("--user-id", help="Of this user.")
@click.option("--team-id", help="Of this team.")
@click.option("--model", help="Of this model, by the name asked for or that of the deployment.")
@click.option(
    "--status",
    "status_filter",
    type=click.Choice(["success", "failure", "refused", "client_closed"]),
    help="failure: all that are no success.",
)
@click.option("--request-id", help="This request alone.")
@click.option("--session-id", help="Of this Claude Code session.")
@click.option("--end-user", help="Of this end user of a gateway in front.")
@click.option("--min-spend", help="That cost at least so many US dollars.")
@click.option("--max-spend", help="That cost at most so many US dollars.")
@click.option("--from", "start_date", help="From this day or time on (UTC).")
@click.option("--to", "end_date", help="Until this day or second (UTC), included.")
@click.option("--sort", type=click.Choice(list(_SORTS)), default="start", show_default=True)
@click.option("--ascending", is_flag=True, help="The smallest or oldest first.")
@click.option(
    "--limit",
    type=click.IntRange(1, _PAGE_SIZE_MAX),
    default=50,
    show_default=True,
    help="At most so many.",
)
@click.option("--page", type=click.IntRange(1), default=1, help="Which page of so many.")
@click.option(
    "--csv",
    "as_csv",
    is_flag=True,
    help="Print all that match as CSV, in the order in which the ledger took them in.",
)
@raw_option
@json_option
@gateway_options
def logs(
    *,
    key: str | None,
    sort: str,
    ascending: bool,
    limit: int,
    page: int,
    as_csv: bool,
    raw: bool,
    as_json: bool,
    gateway: Gateway,
    **filters: str | None,
) -> None:
    """List requests and what each cost, the newest first.

    Costs are in US dollars; one that is empty is of a model without a known price.
    """
    query: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
    if key is not None:
        query["api_key"] = resolve_key(gateway, key)
    if as_csv:
        _refuse_with_csv()
        print_csv(gateway, "/spend/logs", {**query, "summarize": "false"}, raw=raw)
        return
    query |= {"sort_by": _SORTS[sort], "sort_order": "asc" if ascending else "desc"}
    content = gateway.get("/spend/logs/v2", **query, page=page, page_size=limit)
    if as_json:
        print_json(content)
        return
    found = msgspec.json.decode(content, type=_Page)
    print_table(_COLUMNS, [_row(each) for each in found.data], right=frozenset((7, 8, 9, 10)))
    if found.total > len(found.data):
        note(f"{len(found.data)} of {found.total} requests: --page and --limit show others")


def _refuse_with_csv() -> None:
    """Refuse options that would not be followed. Raises click.UsageError."""
    context = click.get_current_context()
    assert context is not None, "a command runs"
    given = [
        name
        for name in ("sort", "ascending", "limit", "page", "min_spend", "max_spend")
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(
            f"--csv prints all that match: it goes without --{given[0].replace('_', '-')}. "
            "`tallygate sql --format csv` chooses and sorts"
        )


def _row(log: _Log) -> list[Any]:
    return [
        log.start_time,
        log.request_id,
        log.metadata.user_api_key_alias,
        log.user,
        log.team_id,
        log.model or log.model_group,
        log.metadata.tallygate_status or log.status,
        log.prompt_tokens,
        log.completion_tokens,
        log.request_duration_ms,
        dollars(log.spend),
    ]
