"""What an alert says to people: a title and a few lines, from the event. Pure.

Events are read as plain data here: what an alert has no line for is left out, and an event that
has more fields than this version knows is told all the same.
"""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from schemas.events import time_from_us
from schemas.money import usd_text

__all__ = ["LINE_MAX", "alert_lines", "alert_title"]

LINE_MAX = 500
"""A line is cut to so many characters."""

_TIME_US_MAX = 253_402_300_799_999_999
_Data = dict[str, Any]
_VERBS = {
    "created": "was made",
    "updated": "was changed",
    "blocked": "was blocked",
    "unblocked": "was unblocked",
    "rotated": "has a new secret",
    "deleted": "was deleted",
}


def alert_title(kind: str, data: _Data) -> str:
    """Return one line that says what happened. `kind` is the event's type without its version."""
    family, _, what = kind.partition(".")
    if kind in _TITLES:
        title = _TITLES[kind](data)
    elif family == "budget":
        title = f"Budget of {_scope(data)} {what}"
    elif what in _VERBS:
        title = f"{family.capitalize()} {_name(family, data)} {_VERBS[what]}"
    else:
        title = kind
    return _one_line(title)


def alert_lines(kind: str, data: _Data) -> list[str]:
    """Return the lines below the title: what else there is to know, and what to do."""
    family = kind.partition(".")[0]
    lines = _LINES.get(kind, _LINES.get(family, _nothing))(data)
    return [_one_line(line) for line in lines if line]


def _one_line(text: str) -> str:
    """Return a text without what could begin a line, a header or a formatting of its own."""
    clean = "".join(each if each.isprintable() else " " for each in text)
    return clean if len(clean) <= LINE_MAX else clean[: LINE_MAX - 1] + "…"


def _nothing(_: _Data) -> list[str]:
    return []


def _scope(data: _Data) -> str:
    if data.get("scope") == "global":
        return "all keys together"
    scope = f"{data.get('scope', '')} {data.get('name') or data.get('scope_id', '')}".strip()
    return f"{scope} for {data['model']}" if data.get("model") else scope


def _name(family: str, data: _Data) -> str:
    for field in (f"{family}_alias", "user_email", "key_name", "model_name", f"{family}_id"):
        if data.get(field):
            return str(data[field])
    return ""


def _count(number: object) -> str:
    return f"{number:,}" if isinstance(number, int) else "some"


def _usd(amount: object) -> str:
    try:
        number = Decimal(str(amount))
    except InvalidOperation:
        return "none"
    return usd_text(number) if number.is_finite() else "none"


def _when(time_us: object) -> str:
    if not isinstance(time_us, int) or not 0 <= time_us <= _TIME_US_MAX:
        return ""
    return time_from_us(time_us).strftime("%b %-d %H:%M UTC")


def _budget_lines(data: _Data) -> list[str]:
    resets = _when(data.get("resets_at_us"))
    return [
        f"Spent {_usd(data.get('spend_usd'))} of {_usd(data.get('max_budget_usd'))}",
        f"Soft budget: {_usd(data['soft_budget_usd'])}" if data.get("soft_budget_usd") else "",
        f"Window: {data['budget_duration']}" if data.get("budget_duration") else "",
        f"Resets {resets}" if resets else "",
    ]


def _by(data: _Data) -> list[str]:
    return [f"By {data['updated_by']}" if data.get("updated_by") else ""]


def _key_lines(data: _Data) -> list[str]:
    owners = [f"{name} {data[f'{name}_id']}" for name in ("team", "user") if data.get(f"{name}_id")]
    return [f"Key id {data.get('key_id', '')}", ", ".join(owners).capitalize(), *_by(data)]


def _lag_lines(data: _Data) -> list[str]:
    if data.get("problem"):
        return [str(data["problem"]), "tallygate doctor looks at all parts"]
    messages, waited_s = _count(data.get("messages")), _count(data.get("waited_s"))
    waited = f"{messages} messages wait, for {waited_s} s at least"
    return [waited, "tallygate doctor looks at all parts"]


def _warned_title(data: _Data) -> str:
    if data.get("threshold") == "soft_budget":
        return f"The soft budget of {_scope(data)} is reached"
    return f"Budget of {_scope(data)} is nearly used up"


def _guardrail_title(data: _Data) -> str:
    action = {"block": "refused", "mask": "masked parts of"}.get(str(data.get("action")), "noted")
    key = data.get("key_alias") or data.get("key_id") or ""
    return f"The guardrail {data.get('guardrail', '')} {action} requests of the key {key}"


def _undelivered_title(data: _Data) -> str:
    alert = data.get("alert")
    kind = str(alert.get("type", "") if isinstance(alert, dict) else "").rpartition(".v")[0]
    return f"An alert ({kind}) could not be delivered to {data.get('destination', '')}"


_TITLES: dict[str, Callable[[_Data], str]] = {
    "budget.exceeded": lambda data: f"Budget of {_scope(data)} is used up",
    "budget.warned": _warned_title,
    "budget.cleared": lambda data: f"Budget of {_scope(data)} has room again",
    "model.unpriced": lambda data: f"The model {data.get('model', '')} has no price",
    "ledger.lagged": lambda _: "The ledger is behind",
    "ledger.caught_up": lambda _: "The ledger has caught up",
    "ledger.events_missing": lambda data: f"{_count(data.get('events'))} events never arrived",
    "ledger.dead_letters_found": lambda data: f"{_count(data.get('events'))} events cannot be read",
    "quota.exhausted": lambda data: (
        "The subscription of "
        f"{data.get('user_id') or data.get('key_alias') or data.get('seat', '')} is used up"
    ),
    "guardrail.noticed": _guardrail_title,
    "alert.undelivered": _undelivered_title,
    "alert.tested": lambda _: "This is a test: alerts arrive here",
    "config.changed": lambda _: "The configuration was changed",
}
_LINES: dict[str, Callable[[_Data], list[str]]] = {
    "budget": _budget_lines,
    "key": _key_lines,
    "team": lambda data: [f"Team id {data.get('team_id', '')}", *_by(data)],
    "user": lambda data: [f"User id {data.get('user_id', '')}", *_by(data)],
    "model": lambda data: [f"Model id {data.get('model_id', '')}", *_by(data)],
    "model.unpriced": lambda data: [
        f"{_count(data.get('requests'))} requests of the last day are in no sum and no budget",
        "tallygate doctor prints the lines that give it a price",
    ],
    "config.changed": lambda data: [
        f"Changed: {', '.join(map(str, data['changed']))}"
        if isinstance(data.get("changed"), list)
        else "",
        f"By {data['changed_by']}" if data.get("changed_by") else "",
    ],
    "ledger.lagged": _lag_lines,
    "ledger.events_missing": lambda _: ["tallygate verify names them"],
    "ledger.dead_letters_found": lambda _: ["tallygate ledger retry-dead-letters says why"],
    "quota.exhausted": lambda data: [
        f"Window: {data['window']}" if data.get("window") else "",
        f"Until {resets}" if (resets := _when(data.get("resets_at_us"))) else "",
    ],
    "guardrail.noticed": lambda data: [
        f"{_count(data.get('hits'))} hits in {_count(data.get('requests'))} requests",
        f"Rules: {', '.join(map(str, data['rules']))}"
        if isinstance(data.get("rules"), list)
        else "",
        f"User {data['user_id']}" if data.get("user_id") else "",
    ],
    "alert.undelivered": lambda data: [
        f"After {data.get('attempts', 0)} attempts: {data.get('reason', '')}"
    ],
    "alert.tested": lambda data: [f"Asked for by {data.get('asked_by', '')}"],
}
