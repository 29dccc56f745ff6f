"""docs/events.md, made from the contract.

`python -m services.runtime.event_docs docs/events.md` writes the page anew; a contract test fails
where it is not current.
"""

import inspect
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec

from schemas import alerts, budgets, client_facts, events, prices, registry, streams, usage

__all__ = ["main", "page"]

_INTRODUCTION = """\
# Events and streams

Everything that happens is an event: [CloudEvents 1.0](https://cloudevents.io) in JSON, on a stream
of NATS JetStream. This page is made from `schemas/` (`python -m services.runtime.event_docs
docs/events.md`); a test keeps it current.

- Types are past tense and versioned. Fields are only ever added, with defaults: the bytes of every
  version that was ever written are kept in `tests/contracts/frozen_events/` and must decode.
- An event is identified by `source` and `id`. A proxy's source is `/proxy/<producer>`, its ids
  count from 1: the ledger recognises repeats and gaps by them, without a time limit.
- Costs are no part of an event. They are computed from `usage` and the prices in force, which are
  events of the same stream, so they can be computed again.
- No event holds a prompt, an answer, a key or a token. A virtual key is its SHA-256.
- Times in `data` are microseconds since the epoch (`*_us`), money is a decimal string.

## Streams

| stream | subjects | what |
|---|---|---|
"""
_STRUCTS: tuple[type[msgspec.Struct], ...] = (
    events.RequestFacts,
    events.UsageRecord,
    client_facts.ClientFacts,
    events.QuotaSeen,
    events.Rejection,
    usage.Usage,
    usage.IterationUsage,
    registry.KeyRecord,
    registry.BudgetWindow,
    registry.ModelBudget,
    registry.TeamRecord,
    registry.UserRecord,
    registry.ModelRecord,
    registry.ConfigChange,
    budgets.BudgetState,
    budgets.Marks,
    prices.PriceChange,
    prices.Repricing,
    prices.PriceOverlay,
    prices.SomeTokenPrices,
    prices.BookContent,
    prices.ModelPrices,
    prices.PricePeriod,
    prices.ContextTier,
    prices.TokenPrices,
    alerts.UnpricedModel,
    alerts.Lag,
    alerts.MissingEvents,
    alerts.DeadLetters,
    alerts.SeatQuota,
    alerts.GuardrailHits,
    alerts.Undelivered,
    alerts.AlertTrial,
)


def _event_types() -> list[type[events.Event]]:
    """Return every event, in the order of the streams."""
    unions = (
        events.UsageEvent,
        events.KeyEvent,
        events.TeamEvent,
        events.UserEvent,
        events.ModelEvent,
        budgets.BudgetEvent,
        alerts.AlertEvent,
    )
    found = [event for union in unions for event in get_args(union)]
    return [
        *found,
        events.ConfigChanged,
        events.PriceChanged,
        events.RequestsRepriced,
        budgets.MarksTold,
    ]


def page() -> str:
    """Return the whole page."""
    rows = "".join(
        f"| `{stream.name}` | {', '.join(f'`{s}`' for s in stream.subjects)} | {stream.purpose} |\n"
        for stream in (*streams.STREAMS, streams.ALERT)
    )
    catalogue = "".join(_event_section(event) for event in _event_types())
    structs = "".join(_struct_section(struct) for struct in _STRUCTS)
    limits = (
        f"A message on `USAGE` holds at most {streams.USAGE_BATCH_EVENTS_MAX:,} events and "
        f"{streams.USAGE_BATCH_BYTES_MAX:,} bytes; an event at most {events.EVENT_BYTES_MAX:,}.\n"
    )
    return (
        f"{_INTRODUCTION}{rows}\n{limits}\nThe stream of events on `USAGE` comes in micro-batches: "
        f"a message is a JSON array of events, in producer order.\n\n## Events\n\n{catalogue}"
        f"## Data\n\n{structs}"
    ).rstrip() + "\n"


def _event_section(event: type[events.Event]) -> str:
    tag = event.__struct_config__.tag
    data = msgspec.inspect.type_info(event)
    assert isinstance(data, msgspec.inspect.StructType)
    field = next(f for f in data.fields if f.name == "data")
    assert isinstance(field.type, msgspec.inspect.StructType)
    return f"### {tag}\n\n{_text(event)}\n\n`data`: {field.type.cls.__name__}\n\n"


def _struct_section(struct: type[msgspec.Struct]) -> str:
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType)
    rows = "".join(
        f"| `{field.name}` | {_type_name(field.type)} | {_default(field)} |\n"
        for field in info.fields
    )
    return (
        f"### {struct.__name__}\n\n{_text(struct)}\n\n"
        f"| field | type | default |\n|---|---|---|\n{rows}\n"
    )


def _text(described: type) -> str:
    return inspect.cleandoc(described.__doc__ or "")


def _default(field: msgspec.inspect.Field) -> str:
    if field.required:
        return "required"
    if field.default_factory is not msgspec.NODEFAULT:
        return "empty"
    return f"`{msgspec.json.encode(field.default).decode()}`"


def _type_name(info: Any) -> str:
    """Return a type in a reader's words."""
    if isinstance(info, msgspec.inspect.UnionType):
        return " or ".join(_type_name(member) for member in info.types)
    if isinstance(info, msgspec.inspect.LiteralType):
        return " or ".join(f'`"{value}"`' for value in info.values)
    if isinstance(info, msgspec.inspect.StructType):
        return info.cls.__name__
    if isinstance(info, msgspec.inspect.NamedTupleType):
        return info.cls.__name__
    if isinstance(info, msgspec.inspect.VarTupleType):
        return f"list of {_type_name(info.item_type)}"
    if isinstance(info, msgspec.inspect.Metadata):
        return _type_name(info.type)
    if isinstance(info, msgspec.inspect.DictType):
        return f"map to {_type_name(info.value_type)}"
    names = {"StrType": "string", "IntType": "integer", "BoolType": "boolean", "NoneType": "null"}
    kind = type(info).__name__
    return names.get(kind, kind.removesuffix("Type").lower())


def main(arguments: list[str]) -> int:
    """Write the page to the file that the one argument names."""
    Path(arguments[0]).write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
