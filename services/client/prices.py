"""`tallygate prices list`: what every model costs at a running gateway."""

from typing import Any

import msgspec
import rich_click as click

from services.client.gateway import Gateway
from services.client.options import gateway_options, json_option
from services.client.output import print_json, print_table
from services.client.price_entries import entry_commands

__all__ = ["prices"]

_COLUMNS = {
    "model": "model",
    "valid_from": "from",
    "valid_to": "before",
    "above_prompt_tokens": "above",
    "input_usd_per_mtok": "input",
    "output_usd_per_mtok": "output",
    "cache_read_usd_per_mtok": "cache read",
    "cache_write_5m_usd_per_mtok": "write 5m",
    "cache_write_1h_usd_per_mtok": "write 1h",
    "multiplier": "times",
    "origin": "by",
}


class _Answer(msgspec.Struct):
    prices: list[dict[str, Any]]


@click.group()
def prices() -> None:
    """Show prices (list), set your own (set, unset), compare the book with public ones (check)."""


for _command in entry_commands:
    prices.add_command(_command)


@prices.command(name="list")
@click.option("--model", help="This model alone, by any of its names.")
@json_option
@gateway_options
def list_prices(*, model: str | None, as_json: bool, gateway: Gateway) -> None:
    """List what every model costs, in US dollars per million tokens.

    `by` says whose word it is: the price book, the configuration file or the API.
    """
    query = {} if model is None else {"model": model}
    content = gateway.get("/prices", **query)
    if as_json:
        print_json(content)
        return
    rows = msgspec.json.decode(content, type=_Answer).prices
    table = [[_shown(row.get(name)) for name in _COLUMNS] for row in rows]
    print_table(list(_COLUMNS.values()), table, right=frozenset(range(3, 10)))


def _shown(value: Any) -> Any:
    """Return an amount without the zeros at its end."""
    if isinstance(value, str) and "." in value and value.replace(".", "").isdigit():
        return value.rstrip("0").rstrip(".")
    return value
