"""`tallygate prices set` and `unset`: the API's own entries about prices, one at a time."""

from typing import Any

import msgspec
import rich_click as click

from services.client.gateway import ClientError, Gateway
from services.client.options import gateway_options, json_option
from services.client.output import note, print_json

__all__ = ["entry_commands"]

_TOKEN_PRICES = {
    "input_price": "input",
    "output_price": "output",
    "cache_read": "cache_read",
    "cache_write_5m": "cache_write_5m",
    "cache_write_1h": "cache_write_1h",
}
"""Each option and the price of `usd_per_mtok` that it sets."""
_OTHERS = {
    "valid_to": "valid_to",
    "multiplier": "multiplier",
    "batch_multiplier": "batch_multiplier",
    "fast_multiplier": "fast_multiplier",
    "searches": "usd_per_1000_web_searches",
    "source": "source",
}
"""Each other option and the field of the entry that it sets."""


class _InForce(msgspec.Struct):
    sequence: int
    api: list[dict[str, Any]]


class _Set(msgspec.Struct):
    sequence: int
    prices: list[dict[str, Any]]


_from_option = click.option(
    "--from", "valid_from", help="From this day on (UTC); an entry for each such day is another."
)


@click.command(name="set")
@click.argument("model")
@_from_option
@click.option("--to", "valid_to", help="Until this day, which is the first not meant any more.")
@click.option("--input", "input_price", help="US dollars per million input tokens.")
@click.option("--output", "output_price", help="The same for output.")
@click.option("--cache-read", help="The same for tokens read from the cache.")
@click.option("--cache-write-5m", help="The same for tokens written for five minutes.")
@click.option("--cache-write-1h", help="The same for tokens written for an hour.")
@click.option("--multiplier", help="The whole cost times so much: 0.9 is a discount of 10 %.")
@click.option("--batch-multiplier", help="Token prices times so much in message batches.")
@click.option("--fast-multiplier", help="Token prices times so much in fast mode.")
@click.option("--searches", help="US dollars for 1000 web searches.")
@click.option("--source", help="Where the figures come from, for people.")
@json_option
@gateway_options
def _set_entry(
    *,
    model: str,
    valid_from: str | None,
    as_json: bool,
    gateway: Gateway,
    **given: str | None,
) -> None:
    """Set what MODEL costs other than in the price book; * in it stands for any text.

    It holds for requests that end from now on; what is not named stays as it is. What was
    booked before stays, too, until `tallygate reprice`.
    """
    tokens = {field: given[name] for name, field in _TOKEN_PRICES.items() if given[name]}
    others = {field: given[name] for name, field in _OTHERS.items() if given[name]}
    if not tokens and not others:
        raise click.UsageError("nothing to set: name a price, such as --input 4.25")
    found = _entries(gateway)
    entry = _taken(found.api, model, valid_from) or _new(model, valid_from)
    entry |= others
    if tokens:
        entry["usd_per_mtok"] = (entry.get("usd_per_mtok") or {}) | tokens
    content = _write(gateway, found.sequence, [*found.api, entry])
    _tell(content, f"set what {model} costs", as_json=as_json)


@click.command(name="unset")
@click.argument("model")
@_from_option
@json_option
@gateway_options
def _unset_entry(*, model: str, valid_from: str | None, as_json: bool, gateway: Gateway) -> None:
    """Take what was set for MODEL away: the configuration file and the price book decide again."""
    found = _entries(gateway)
    if _taken(found.api, model, valid_from) is None:
        known = ", ".join(f"{_named(each)}" for each in found.api) or "none"
        raise ClientError(f"no such entry was set over the API for {model!r}; there is {known}")
    content = _write(gateway, found.sequence, found.api)
    _tell(content, f"took away what was set for {model}", as_json=as_json)


def _entries(gateway: Gateway) -> _InForce:
    return msgspec.json.decode(gateway.get("/prices"), type=_InForce)


def _taken(
    entries: list[dict[str, Any]], model: str, valid_from: str | None
) -> dict[str, Any] | None:
    """Take the entry for a model and a first day out of the list and return it, if it is there."""
    for entry in entries:
        if (entry["model"], entry.get("valid_from")) == (model, valid_from):
            entries.remove(entry)
            return entry
    return None


def _new(model: str, valid_from: str | None) -> dict[str, Any]:
    return {"model": model} | ({} if valid_from is None else {"valid_from": valid_from})


def _write(gateway: Gateway, sequence: int, entries: list[dict[str, Any]]) -> bytes:
    """Store all entries, unless somebody else has set others meanwhile. Raises ClientError."""
    prices = [_without_nulls(entry) for entry in entries]
    return gateway.post("/price/update", {"prices": prices, "sequence": sequence})


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return value


def _named(entry: dict[str, Any]) -> str:
    start = entry.get("valid_from")
    return f"{entry['model']} from {start}" if start else str(entry["model"])


def _tell(content: bytes, done: str, *, as_json: bool) -> None:
    if as_json:
        print_json(content)
        return
    made = msgspec.json.decode(content, type=_Set)
    note(f"{done}; it holds for requests that end from now on (message {made.sequence})")


entry_commands: tuple[click.Command, ...] = (_set_entry, _unset_entry)
"""Commands for the group `prices`."""
