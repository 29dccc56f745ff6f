"""Questions before something is changed that cannot be taken back with a click."""

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, Response

from services.admin.ui.api_calls import ApiRefusal, call_api
from services.admin.ui.forms import read_form
from services.admin.ui.pages import page, redirect

__all__ = ["Question", "block_question", "carry_out", "confirm"]


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


def block_question(
    name: str, path: str, *, is_blocked: bool, block_text: str, unblock_text: str
) -> Question:
    """Return the question before what stands at `path` is blocked, or unblocked."""
    if is_blocked:
        return Question(
            title=f"Unblock {name}",
            text=unblock_text,
            path=f"{path}/block",
            button="Unblock",
            fields={"want": "unblock"},
        )
    return Question(
        title=f"Block {name}",
        text=block_text,
        path=f"{path}/block",
        button="Block",
        is_dangerous=True,
        fields={"want": "block"},
    )


async def carry_out(
    request: Request[Any, Any, Any],
    question: Question,
    route: str,
    body: Mapping[str, Any],
    *,
    then: str,
) -> Response[Any]:
    """Have the API's `route` do what was confirmed, and lead to the address `then`.

    Where something else was typed than the question wants, or the API refuses, it is asked again
    with what was wrong. Raises BadRequest for what is no form of ours.
    """
    problem = ""
    if question.typed:
        given = (await read_form(request)).get("typed", "").strip()
        problem = "" if given == question.typed.strip() else f"This is not {question.typed}."
    if not problem:
        try:
            await call_api(request, "POST", route, body=body)
        except ApiRefusal as error:
            problem = error.message
    return confirm(request, question, problem) if problem else redirect(request, then)
