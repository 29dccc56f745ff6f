"""`tallygate alerts`: who is told of what at a running gateway, and whether it arrives."""

import sys
from typing import Any

import msgspec
import rich_click as click

from services.client.gateway import ClientError, Gateway
from services.client.options import gateway_options, json_option
from services.client.output import cell_text, note, print_json, print_table

__all__ = ["alerts"]


class _Undelivered(msgspec.Struct):
    given_up_at: str
    destination: str
    reason: str
    attempts: int
    title: str


class _Alerts(msgspec.Struct):
    destinations: list[dict[str, Any]]
    undelivered: list[_Undelivered]


class _Tested(msgspec.Struct):
    event_id: str
    destinations: list[str]


@click.group()
def alerts() -> None:
    """Show who is told of what (list), or see whether alerts arrive (test)."""


@alerts.command(name="list")
@json_option
@gateway_options
def list_alerts(*, as_json: bool, gateway: Gateway) -> None:
    """List the destinations of the configuration, and what could not be delivered to them."""
    content = gateway.get("/alerts")
    if as_json:
        print_json(content)
        return
    found = msgspec.json.decode(content, type=_Alerts)
    columns = ["name", "kind", "events", "teams", "users", "keys"]
    rows = [[_listed(each.get(name)) for name in columns] for each in found.destinations]
    print_table(columns, rows, right=frozenset())
    if found.undelivered:
        note("not delivered, the newest first:")
        names = ["given up at", "to", "alert", "why", "attempts"]
        dead = [
            [each.given_up_at, each.destination, each.title, each.reason, each.attempts]
            for each in found.undelivered
        ]
        print_table(names, dead, right=frozenset({4}))


@alerts.command(name="test")
@json_option
@gateway_options
def test_alerts(*, as_json: bool, gateway: Gateway) -> None:
    """Send an alert to all destinations that are told of `alert.tested`."""
    content = gateway.post("/alerts/test", {})
    tested = msgspec.json.decode(content, type=_Tested)
    if as_json:
        print_json(content)
    elif tested.destinations:
        names = ", ".join(map(cell_text, tested.destinations))
        sys.stdout.write(f"sent to {names}: event {cell_text(tested.event_id)}\n")
    if not tested.destinations:
        raise ClientError(
            "no destination is told of alert.tested: add one under alerts: of the configuration, "
            "or alert.tested to its events"
        )


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
