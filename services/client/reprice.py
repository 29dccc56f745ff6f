"""`tallygate reprice`: what requests would cost by other prices, and having them cost that."""

from pathlib import Path
from typing import Any

import msgspec
import rich_click as click
import yaml

from schemas.reprice import RepriceLine, RepriceSums
from services.client.gateway import ClientError, Gateway
from services.client.options import gateway_options, json_option
from services.client.output import note, print_json, print_table

__all__ = ["reprice"]

FILE_BYTES_MAX = 1024 * 1024
_COLUMNS = ["day", "key", "model", "requests", "before", "after", "difference", "unpriced"]


class _Answer(msgspec.Struct):
    applied: bool
    total: RepriceSums
    lines: list[RepriceLine]
    sequence: int | None = None


@click.command()
@click.option("--from", "from_", required=True, help="The first day that is meant (UTC).")
@click.option("--to", help="The first day that is not meant any more. Without it: up to now.")
@click.option(
    "--model",
    "models",
    multiple=True,
    help="Requests of this model, by any of its names; may be given several times. Without: all.",
)
@click.option(
    "--prices",
    type=click.Path(path_type=Path),
    help="A file with entries as in `prices:` of the configuration (YAML or JSON), which go before "
    "the prices in force, for this repricing alone.",
)
@click.option("--reason", default="", help="Why; kept with the repricing. Needed with --apply.")
@click.option("--apply", "is_applied", is_flag=True, help="Change the costs. Without it: show.")
@json_option
@gateway_options
def reprice(
    *,
    from_: str,
    to: str | None,
    models: tuple[str, ...],
    prices: Path | None,
    reason: str,
    is_applied: bool,
    as_json: bool,
    gateway: Gateway,
) -> None:
    """Show what requests would cost by the prices in force, and with --apply have them cost that.

    tallygate reprice --from 2026-11-01 --model claude-opus-5
    """
    body: dict[str, Any] = {
        "from": from_,
        "to": to,
        "models": models,
        "prices": [] if prices is None else _entries(prices),
        "reason": reason,
        "apply": is_applied,
    }
    content = gateway.post("/reprice", body)
    if as_json:
        print_json(content)
        return
    _print(msgspec.json.decode(content, type=_Answer))


def _entries(path: Path) -> Any:
    """Return the entries of a file; amounts are texts, so that they keep their digits."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ClientError(f"{path}: {error.strerror}") from None
    if len(content) > FILE_BYTES_MAX:
        raise ClientError(f"{path} is longer than {FILE_BYTES_MAX} bytes")
    try:
        # It makes texts, lists and mappings, and nothing else.
        found = yaml.load(content, yaml.BaseLoader)  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ClientError(f"{path} is not YAML: {error}") from None
    return found["prices"] if isinstance(found, dict) and "prices" in found else found


def _print(answer: _Answer) -> None:
    rows = [[each.day, each.key_id, each.model, *_amounts(each)] for each in answer.lines]
    total = answer.total
    if rows:
        rows.append(["all", "", "", *_amounts(total)])
        print_table(_COLUMNS, rows, right=frozenset(range(3, 8)))
    told = f"{total.changed_requests:,} of {total.requests:,} requests that are meant"
    if answer.applied:
        note(f"{told} have other costs since message {answer.sequence} of the stream")
    elif total.changed_requests:
        note(f"{told} would have other costs; nothing was changed. --apply changes them")
    else:
        note(f"{told} would have other costs")


def _amounts(sums: RepriceSums) -> list[str]:
    unpriced = f"{sums.unpriced_before} → {sums.unpriced_after}" if sums.unpriced_before else ""
    return [
        f"{sums.changed_requests:,}",
        f"{sums.cost_before_usd:f}",
        f"{sums.cost_after_usd:f}",
        f"{sums.difference_usd:+f}",
        unpriced,
    ]
