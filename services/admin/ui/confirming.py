"""Questions before something is changed that cannot be taken back with a click."""

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, Response

from services.admin.ui.pages import page

__all__ = ["Question", "confirm", "typed_right"]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked. With `typed`, this text must be typed; `fields` go with the answer."""

    title: str
    text: str
    path: str
    button: str
    is_dangerous: bool = False
    typed: str = ""
    fields: dict[str, str] = {}


def confirm(
    request: Request[Any, Any, Any], question: Question, problem: str = ""
) -> Response[bytes]:
    """Return the question as a dialog; `problem` is what was wrong with the answer."""
    status = 400 if problem else 200
    return page(request, "confirm.html", status=status, question=question, problem=problem)


def typed_right(question: Question, form: Mapping[str, str]) -> str:
    """Return what is wrong with what was typed; empty: nothing is."""
    if question.typed and form.get("typed", "").strip() != question.typed.strip():
        return f"This is not {question.typed}."
    return ""
