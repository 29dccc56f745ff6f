"""The routes under /model: models that come, change and go at run time, and what there is."""

from typing import Any

import msgspec
from litestar import Request, Response, get, patch, post

from schemas.errors import ApiError, BadRequest, Conflict, NotFound
from schemas.events import ModelCreated, ModelDeleted, ModelUpdated
from schemas.registry import ModelRecord
from services.admin.bodies_models import (
    DeletedModel,
    DeleteModel,
    GroupInfoQuery,
    ListedModel,
    ListedModels,
    ModelEntry,
    ModelGroups,
    ModelInfoQuery,
    ModelInfos,
    ModelRow,
    NewModel,
    PatchModel,
    UpdateModel,
)
from services.admin.describing import Description, described
from services.admin.directory import sequence_of
from services.admin.guard import caller_of
from services.admin.models import (
    aliases_of,
    checked_model,
    created_model,
    entries_of,
    groups_of,
    may_use,
    model_row,
    names_of,
    updated_model,
)
from services.admin.preconditions import etag_header
from services.admin.principal import Principal
from services.admin.reading import answer_json, read_body, read_query
from services.admin.records import Issue
from services.admin.state import AdminState, now_us
from services.runtime.model_names import key_models
from services.runtime.price_book import PriceBook
from services.runtime.registry import RegistrySnapshot

__all__ = ["MODEL_ROUTES"]

_TAG = "models"
_Request = Request[Any, Any, Any]
_SHOWN_TO_KEYS = "model"
"""Of `litellm_params`, a virtual key is shown this alone: addresses are the company's business."""


@post(
    "/model/new",
    status_code=200,
    opt=described(
        Description(
            summary="Add a model",
            description=(
                "An entry as in `model_list`. Every proxy has it within a second. `api_key` names "
                "a variable of the proxies' environment (`os.environ/NAME`, where NAME holds "
                "API_KEY): events hold no secrets."
            ),
            tag=_TAG,
            body=NewModel,
            answer=ModelRow,
            versioned=True,
            example_body={
                "model_name": "claude-fast",
                "litellm_params": {
                    "model": "anthropic/claude-haiku-4-5",
                    "api_key": "os.environ/TEAM_API_KEY",
                },
                "model_info": {"id": "claude-fast-1"},
            },
            errors=(400, 409),
        )
    ),
)
async def new_model(request: _Request, admin: AdminState) -> Response[bytes]:
    """Add a model."""
    body = await read_body(request, NewModel)
    snapshot = await admin.registry()
    record = created_model(body, _issue(request))
    if record.model_id in snapshot.models:
        raise Conflict(
            "a model with this id exists already, or did once: choose another", param="model_info"
        )
    checked_model(record, admin.config, snapshot.live_models())
    sequence = await admin.writer.write(ModelCreated, record, expected_sequence=0)
    return answer_json(model_row(record), headers=etag_header(sequence))


@post(
    "/model/update",
    status_code=200,
    opt=described(
        Description(
            summary="Change a model",
            description=(
                "`model_info.id` says which. What is named is changed and the rest stays; null "
                "takes a value away. Models of the configuration file are changed there."
            ),
            tag=_TAG,
            body=UpdateModel,
            answer=ModelRow,
            versioned=True,
            example_body={
                "model_info": {"id": "claude-fast-1"},
                "litellm_params": {"timeout": 120},
            },
            errors=(400, 404, 409, 412),
        )
    ),
)
async def update_model(request: _Request, admin: AdminState) -> Response[bytes]:
    """Change a model."""
    body = await read_body(request, UpdateModel)
    return await _updated(request, admin, body, "model_info")


@patch(
    "/model/{model_id:str}/update",
    opt=described(
        Description(
            summary="Change the model in the path",
            description="As `POST /model/update`; `model_info.id` may be left out.",
            tag=_TAG,
            body=PatchModel,
            answer=ModelRow,
            versioned=True,
            example_body={"litellm_params": {"timeout": 120}},
            errors=(400, 404, 409, 412),
        )
    ),
)
async def patch_model(request: _Request, admin: AdminState, model_id: str) -> Response[bytes]:
    """Change the model that the path names."""
    body = await read_body(request, PatchModel)
    if body.model_info.get("id", model_id) != model_id:
        raise BadRequest("model_info.id is not the id in the path", param="model_info")
    named = UpdateModel(
        model_info={**body.model_info, "id": model_id},
        model_name=body.model_name,
        litellm_params=body.litellm_params,
    )
    return await _updated(request, admin, named, "model_id")


async def _updated(
    request: _Request, admin: AdminState, body: UpdateModel, param: str
) -> Response[bytes]:
    snapshot = await admin.registry()
    before = _found(admin, snapshot, body.model_info.get("id"), param)
    record = updated_model(before, body, _issue(request))
    others = [each for each in snapshot.live_models() if each.model_id != record.model_id]
    checked_model(record, admin.config, others)
    sequence = await admin.writer.write(
        ModelUpdated, record, expected_sequence=sequence_of(snapshot, before)
    )
    return answer_json(model_row(record), headers=etag_header(sequence))


@post(
    "/model/delete",
    status_code=200,
    opt=described(
        Description(
            summary="Delete a model",
            description=(
                "It gets no further request; those under way end as they began. Its id is never "
                "given again. Models of the configuration file are taken away there."
            ),
            tag=_TAG,
            body=DeleteModel,
            answer=DeletedModel,
            example_body={"id": "claude-fast-1"},
            errors=(400, 404, 409, 412),
        )
    ),
)
async def delete_model(request: _Request, admin: AdminState) -> Response[bytes]:
    """Delete a model."""
    body = await read_body(request, DeleteModel)
    snapshot = await admin.registry()
    before = _found(admin, snapshot, body.id, "id")
    issue = _issue(request)
    record = msgspec.structs.replace(
        before, deleted=True, updated_at_us=issue.now_us, updated_by=issue.by
    )
    await admin.writer.write(ModelDeleted, record, expected_sequence=sequence_of(snapshot, before))
    return answer_json(
        DeletedModel(id=record.model_id, message=f"Model: {record.model_id} deleted successfully")
    )


@get(
    ["/model/info", "/v1/model/info"],
    opt=described(
        Description(
            summary="Show deployments with their settings and prices",
            description=(
                "Those of the configuration file, then those of the registry. No credential is "
                "shown. A virtual key sees those that it may use, without their addresses. One "
                "model of the registry comes with its ETag."
            ),
            tag=_TAG,
            query=ModelInfoQuery,
            answer=ModelInfos,
            versioned=True,
            example_query="litellm_model_id=claude-fast-1",
            errors=(400, 404),
        ),
        access="own_key",
    ),
)
async def model_info(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show deployments with their settings and prices."""
    query = read_query(request, ModelInfoQuery)
    wanted = query.litellm_model_id
    # Taken before the entries: an ETag that is too old is refused, one that is too new is not.
    sequence = _sequence_of_id(await admin.registry(), wanted)
    entries = await _entries(request, admin)
    if wanted is not None:
        entries = [each for each in entries if each.model_info.id == wanted]
        if not entries:
            raise NotFound("there is no model with this id", param="litellm_model_id")
    headers = etag_header(sequence) if sequence > 0 else None
    return answer_json(ModelInfos(data=tuple(entries)), headers=headers)


@get(
    "/model_group/info",
    opt=described(
        Description(
            summary="Show model names, how many deployments each has, and its prices",
            description="Prices are those of the dearest deployment of the name.",
            tag=_TAG,
            query=GroupInfoQuery,
            answer=ModelGroups,
            example_query="model_group=claude-fast",
            errors=(400,),
        ),
        access="own_key",
    ),
)
async def model_group_info(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show model names."""
    query = read_query(request, GroupInfoQuery)
    groups = groups_of(await _entries(request, admin))
    wanted = query.model_group
    found = tuple(each for each in groups if wanted in (None, each.model_group))
    return answer_json(ModelGroups(data=found))


@get(
    ["/models", "/v1/models"],
    opt=described(
        Description(
            summary="List the model names that may be asked for",
            description=(
                "In OpenAI's shape, as LiteLLM does. On the gateway's port `/v1/models` is the "
                "proxy's own, which answers in Anthropic's shape, too."
            ),
            tag=_TAG,
            answer=ListedModels,
        ),
        access="own_key",
    ),
)
async def list_models(request: _Request, admin: AdminState) -> Response[bytes]:
    """List model names."""
    await admin.registry()
    entries = entries_of(admin.config, admin.snapshot.live_models(), None, now_us())
    caller = caller_of(request)
    lists = _lists_of(admin, caller)
    names = [
        name
        for name in names_of(entries, admin.config)
        if all(may_use(each, _target(admin, name)) or may_use(each, name) for each in lists)
    ]
    if lists:
        key = caller.key
        assert key is not None
        found = aliases_of(key, lists[1:], entries, admin.config)
        names += (each for each in found if each not in names)
    return answer_json(ListedModels(data=tuple(ListedModel(id=name) for name in names)))


async def _entries(request: _Request, admin: AdminState) -> list[ModelEntry]:
    """Return the deployments that the caller may see."""
    snapshot = await admin.registry()
    book: PriceBook | None = None
    try:
        book = await admin.price_view.book()
    except ApiError:
        # Settings are worth an answer without prices.
        book = None
    entries = entries_of(admin.config, snapshot.live_models(), book, now_us())
    caller = caller_of(request)
    if caller.key is None or caller.sees_all:
        return entries
    _, *lists = _lists_of(admin, caller)
    lists.append(key_models(caller.key))
    return [
        msgspec.structs.replace(
            each, litellm_params={_SHOWN_TO_KEYS: each.litellm_params.get(_SHOWN_TO_KEYS)}
        )
        for each in entries
        if all(may_use(models, each.model_name) for models in lists)
    ]


def _lists_of(admin: AdminState, caller: Principal) -> list[tuple[str, ...]]:
    """Return the lists of models that bind a caller: the key's, its team's and its user's."""
    if caller.key is None or caller.sees_all:
        return []
    return [each.models for each in (caller.key, *admin.snapshot.owners_of(caller.key))]


def _sequence_of_id(snapshot: RegistrySnapshot, model_id: str | None) -> int:
    """Return the sequence of one model of the registry; 0 for one of the file, and for all."""
    record = snapshot.models.get(model_id or "")
    return 0 if record is None or record.deleted else sequence_of(snapshot, record)


def _target(admin: AdminState, name: str) -> str:
    return admin.config.router.model_group_alias.get(name, name)


def _issue(request: _Request) -> Issue:
    return Issue(now_us=now_us(), by=caller_of(request).name)


def _found(admin: AdminState, snapshot: RegistrySnapshot, model_id: Any, param: str) -> ModelRecord:
    """Return the live model of the registry with an id. Raises BadRequest, NotFound."""
    if not isinstance(model_id, str):
        raise BadRequest("model_info.id must say which model is meant", param=param)
    record = snapshot.models.get(model_id)
    if record is not None and not record.deleted:
        return record
    if any(each.deployment_id == model_id for each in admin.config.deployments):
        raise BadRequest(
            "this model is one of the configuration file: change it there, then reload "
            "(POST /config/reload)",
            param=param,
        )
    raise NotFound("there is no model with this id; GET /model/info lists them", param=param)


MODEL_ROUTES = (
    new_model,
    update_model,
    patch_model,
    delete_model,
    model_info,
    model_group_info,
    list_models,
)
