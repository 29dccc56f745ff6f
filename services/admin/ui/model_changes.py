"""Models of the registry: adding, changing and deleting deployments while requests run."""

import re
from collections.abc import Mapping
from typing import Any

from litestar import Request, Response, get, post

from schemas.errors import NotFound
from services.admin.ui.api_calls import ApiRefusal, call_api
from services.admin.ui.api_rows import Body
from services.admin.ui.confirming import Question, carry_out, confirm
from services.admin.ui.form_context import Blank
from services.admin.ui.forms import Fields, read_fields
from services.admin.ui.pages import page, redirect
from services.admin.ui.settings_form import FieldProblem, Kind, changed, given, settings_from

__all__ = ["MODEL_CHANGE_ROUTES"]

_PARAMS: dict[str, Kind] = {
    "model": "text",
    "api_key": "text",
    "api_base": "text",
    "timeout": "number",
    "stream_timeout": "number",
    "weight": "number",
    "order": "count",
    "rpm": "count",
    "tpm": "count",
    "max_parallel_requests": "count",
}
"""The fields of `litellm_params` that the form has."""
_KINDS: dict[str, Kind] = {"model_name": "text", "id": "text", **_PARAMS}
_MORE = ("timeout", "stream_timeout", "weight", "order", "rpm", "tpm", "max_parallel_requests")
_PARAM_NAMED = re.compile(r"litellm_params\.(\w+)")
_Request = Request[Any, Any, Any]


@get("/models/new", opt={"needs": "may_manage"})
async def new_model_form(request: _Request) -> Response[bytes]:
    """Show the form, in a dialog."""
    return _form(request, "model_new.html", {"model": "anthropic/"})


@post("/models", status_code=200, opt={"needs": "may_manage"})
async def create_model(request: _Request) -> Response[Any]:
    """Add the deployment, or show the form with what is wrong."""
    fields = await read_fields(request)
    try:
        settings = settings_from(fields, _KINDS)
        body: dict[str, Any] = {
            "model_name": settings["model_name"] or "",
            "litellm_params": given({name: settings[name] for name in _PARAMS}),
            "model_info": given({"id": settings["id"]}),
        }
        await call_api(request, "POST", "/model/new", body=body)
    except (FieldProblem, ApiRefusal) as error:
        return _form(request, "model_new.html", _typed(fields), error)
    return redirect(request, "/ui/models")


@get("/models/deployments/{model_id:str}/edit", opt={"needs": "may_manage"})
async def edit_form(request: _Request, model_id: str) -> Response[bytes]:
    """Show the form with what is set."""
    entry, etag = await _entry_of(request, model_id)
    values = {**entry["litellm_params"], "model_name": entry["model_name"]}
    return _form(request, "model_edit.html", values, model_id=model_id, etag=etag)


@post("/models/deployments/{model_id:str}/edit", status_code=200, opt={"needs": "may_manage"})
async def edit(request: _Request, model_id: str) -> Response[Any]:
    """Change what differs, unless somebody changed the model since the form was shown."""
    fields = await read_fields(request)
    etag = "".join(fields.get("etag", ()))
    entry, _ = await _entry_of(request, model_id)
    try:
        settings = settings_from(fields, _KINDS)
        params = changed({name: settings[name] for name in _PARAMS}, entry["litellm_params"])
        body: dict[str, Any] = {"model_info": {"id": model_id}}
        if settings["model_name"] != entry["model_name"]:
            body["model_name"] = settings["model_name"] or ""
        if params:
            body["litellm_params"] = params
        if len(body) > 1:
            await call_api(request, "POST", "/model/update", body=body, if_match=etag)
    except (FieldProblem, ApiRefusal) as error:
        context = {"model_id": model_id, "etag": etag}
        return _form(request, "model_edit.html", _typed(fields), error, **context)
    return redirect(request, "/ui/models")


@get("/models/deployments/{model_id:str}/delete", opt={"needs": "may_manage"})
async def delete_question(request: _Request, model_id: str) -> Response[bytes]:
    """Ask for the deployment's id before it is deleted."""
    entry, _ = await _entry_of(request, model_id)
    return confirm(request, _delete_question(model_id, entry))


@post("/models/deployments/{model_id:str}/delete", status_code=200, opt={"needs": "may_manage"})
async def delete(request: _Request, model_id: str) -> Response[Any]:
    """Delete the deployment whose id was typed."""
    entry, _ = await _entry_of(request, model_id)
    question = _delete_question(model_id, entry)
    return await carry_out(request, question, "/model/delete", {"id": model_id}, then="/ui/models")


async def _entry_of(request: _Request, model_id: str) -> tuple[Body, str]:
    """Return a deployment of the registry and its ETag. Raises ApiRefusal, NotFound."""
    query = {"litellm_model_id": model_id}
    answer = await call_api(request, "GET", "/model/info", query=query)
    entry: Body = answer.body["data"][0]
    if not entry["model_info"]["db_model"]:
        raise NotFound("This model is one of the configuration file: it is changed there.")
    return entry, answer.headers.get("etag", "")


def _typed(fields: Fields) -> dict[str, str]:
    return {name: "".join(texts[-1:]) for name, texts in fields.items()}


def _form(
    request: _Request,
    template: str,
    values: Mapping[str, Any],
    error: FieldProblem | ApiRefusal | None = None,
    **context: str,
) -> Response[bytes]:
    problems: dict[str, str] = {}
    if error is not None:
        problems[_field_of(error)] = str(error)
    return page(
        request,
        template,
        status=200 if error is None else 400,
        values=Blank(values),
        problems=Blank(problems),
        problem=problems.get(""),
        is_more_open=any(name in problems or values.get(name) for name in _MORE),
        **context,
    )


def _field_of(error: FieldProblem | ApiRefusal) -> str:
    """Return the field of the form that an error is about; empty: none alone."""
    named = dict.fromkeys(_PARAM_NAMED.findall(str(error)))
    if error.field == "litellm_params" and len(named) == 1:
        name = next(iter(named))
        return name if name in _PARAMS else ""
    field = "id" if error.field == "model_info" else error.field or ""
    return field if field in _KINDS else ""


def _delete_question(model_id: str, entry: Body) -> Question:
    return Question(
        title=f"Delete {model_id}",
        text=f"It answers for {entry['model_name']} no more; requests under way end as they "
        "began. Its id is never given again.",
        path=f"/ui/models/deployments/{model_id}/delete",
        button="Delete model",
        is_dangerous=True,
        typed=model_id,
    )


MODEL_CHANGE_ROUTES = (
    new_model_form,
    create_model,
    edit_form,
    edit,
    delete_question,
    delete,
)
