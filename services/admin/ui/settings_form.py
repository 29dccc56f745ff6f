"""What a form of settings means to the API: its fields as the values of a request. Pure.

The names of fields are the API's own, so what the API says of a field finds its place in the form.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from services.admin.ui.forms import Fields

__all__ = ["PERIODS", "FieldProblem", "Kind", "changed", "given", "periods_with", "settings_from"]

Kind = Literal["text", "usd", "number", "count", "words", "choices", "flag"]
"""`words` are separated by commas, of `choices` each is a field of its own."""

PERIODS = (
    ("", "Never"),
    ("hourly", "Every hour"),
    ("daily", "Every day"),
    ("weekly", "Every week"),
    ("monthly", "Every month"),
)
"""When a budget resets, by the API's words."""
_SAME_PERIOD = {
    "1h": "hourly",
    "24h": "daily",
    "1d": "daily",
    "7d": "weekly",
    "30d": "monthly",
    "1mo": "monthly",
}
_DIGITS_MAX = 15


class FieldProblem(Exception):
    """A field's text is none of its kind: `field` and `message` say which and what it should be."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field, self.message = field, message


def settings_from(fields: Fields, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """Return the values of all fields of a form; None stands for an empty one.

    A form that lacks a field has nothing chosen in it. Raises FieldProblem.
    """
    return {name: _value(name, kind, fields.get(name, ())) for name, kind in kinds.items()}


def given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was filled in, for something new."""
    return {name: value for name, value in settings.items() if value not in (None, [], False)}


def changed(settings: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """Return what differs from what there is: what was emptied is None, which takes it away."""
    return {
        name: value
        for name, value in settings.items()
        if _comparable(name, value) != _comparable(name, current.get(name))
    }


def periods_with(current: str | None) -> tuple[tuple[str, str], ...]:
    """Return the choices of a budget's period, with the one that is set, under its own words."""
    if current is None or any(_SAME_PERIOD.get(current, current) == word for word, _ in PERIODS):
        return tuple((_same(word, current), text) for word, text in PERIODS)
    return (*PERIODS, (current, current))


def _same(word: str, current: str | None) -> str:
    return current if current is not None and _SAME_PERIOD.get(current) == word else word


def _comparable(name: str, value: Any) -> Any:
    if name.endswith("budget_duration"):
        return _SAME_PERIOD.get(value, value)
    if isinstance(value, float):
        return Decimal(str(value))
    return None if value in ((), [], "", False) else value


def _value(name: str, kind: Kind, values: Iterable[str]) -> Any:
    texts = [text for each in values if (text := each.strip())]
    if kind == "choices":
        return list(dict.fromkeys(texts))
    if kind == "flag":
        return bool(texts)
    text = texts[-1] if texts else ""
    if kind == "words":
        return list(dict.fromkeys(word for each in text.split(",") if (word := each.strip())))
    if not text:
        return None
    if kind in ("usd", "number"):
        what = "an amount of US dollars, such as 100 or 0.50" if kind == "usd" else "a number"
        return _decimal(name, text, what)
    return _count(name, text) if kind == "count" else text


def _decimal(name: str, text: str, what: str) -> Decimal:
    try:
        amount = Decimal(text.removeprefix("$").strip())
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise FieldProblem(name, f"This must be {what}.")
    return amount


def _count(name: str, text: str) -> int:
    digits = text.replace(",", "")
    if not digits.isascii() or not digits.isdigit() or len(digits) > _DIGITS_MAX:
        raise FieldProblem(name, "This must be a whole number, such as 60.")
    return int(digits)
