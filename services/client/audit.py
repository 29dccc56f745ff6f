"""`tallygate audit`: who changed what at a running gateway, when, from where and how."""

from typing import Any

import msgspec
import rich_click as click

from services.client.csv_stream import print_csv
from services.client.gateway import Gateway
from services.client.options import gateway_options, json_option, raw_option
from services.client.output import note, print_json, print_table

__all__ = ["audit"]

_COLUMNS = ["when", "what", "name", "action", "changes", "by", "from", "route"]
_PAGE_SIZE_MAX = 100
_VALUE_LENGTH_MAX = 60
"""A longer value is cut in the table; --json and --csv have all of it."""


class _Change(msgspec.Struct):
    updated_at: str
    action: str
    object_type: str
    object_id: str
    updated_values: dict[str, Any]
    changed_fields: list[str]
    before_value: dict[str, Any] | None = None
    object_name: str | None = None
    changed_by: str | None = None
    client_address: str | None = None
    route: str | None = None


class _Page(msgspec.Struct):
    audit_logs: list[_Change]
    total: int


@click.command()
@click.option(
    "--type",
    "object_type",
    type=click.Choice(["key", "team", "user", "model", "config", "prices", "requests"]),
    help="Changes of this kind alone; requests: repricings.",
)
@click.option("--id", "object_id", help="Changes of what has this id.")
@click.option("--name", "object_name", help="Changes of what had this name then.")
@click.option("--action", help="created, updated, blocked, unblocked, rotated, deleted, ...")
@click.option("--field", "changed_field", help="Changes of this field, such as max_budget_usd.")
@click.option("--by", "changed_by", help="Changes by this one: master_key, or a key's id.")
@click.option("--address", "client_address", help="Changes from this address.")
@click.option("--from", "start_date", help="From this day or time on (UTC).")
@click.option("--to", "end_date", help="Until this day or second (UTC), included.")
@click.option(
    "--limit",
    type=click.IntRange(1, _PAGE_SIZE_MAX),
    default=50,
    show_default=True,
    help="At most so many, the newest ones.",
)
@click.option("--page", type=click.IntRange(1), default=1, help="Which page of so many.")
@click.option("--csv", "as_csv", is_flag=True, help="Print all that match as CSV.")
@raw_option
@json_option
@gateway_options
def audit(
    *,
    limit: int,
    page: int,
    as_csv: bool,
    raw: bool,
    as_json: bool,
    gateway: Gateway,
    **filters: str | None,
) -> None:
    """Show who changed keys, teams, users, models, the configuration and prices.

    For each change: when, what, from what to what, by whom, from which address and by which route.
    """
    query: dict[str, str | int] = {
        name: value for name, value in filters.items() if value is not None
    }
    if as_csv:
        print_csv(gateway, "/audit", query, raw=raw)
        return
    content = gateway.get("/audit", **query, page=page, page_size=limit)
    if as_json:
        print_json(content)
        return
    found = msgspec.json.decode(content, type=_Page)
    print_table(_COLUMNS, [_row(change) for change in found.audit_logs], right=frozenset())
    if found.total > len(found.audit_logs):
        note(f"{len(found.audit_logs)} of {found.total} changes: --page and --limit show others")


def _row(change: _Change) -> list[Any]:
    return [
        change.updated_at,
        change.object_type,
        change.object_name or change.object_id,
        change.action,
        "; ".join(_changed(change, name) for name in change.changed_fields),
        change.changed_by,
        change.client_address,
        change.route,
    ]


def _changed(change: _Change, name: str) -> str:
    after = _shown(change.updated_values.get(name))
    if change.before_value is None:
        return f"{name}: {after}"
    return f"{name}: {_shown(change.before_value.get(name))} -> {after}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _VALUE_LENGTH_MAX else f"{text[: _VALUE_LENGTH_MAX - 1]}…"
