"""Models: those of the file and those of the registry, as they are shown, made and changed. Pure.

A model of the registry is read by the rules of `model_list` before it is stored, so that no proxy
gets one that it must refuse for more than a variable of its environment that is not set.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import UNSET

from schemas.config import Deployment, GatewayConfig
from schemas.errors import BadRequest
from schemas.events import time_from_us
from schemas.registry import ENVIRONMENT_PREFIX, KeyRecord, ModelRecord
from services.admin.bodies_models import (
    ModelEntry,
    ModelFacts,
    ModelGroup,
    ModelRow,
    NewModel,
    UpdateModel,
)
from services.admin.money import plain_number
from services.admin.price_view import token_prices
from services.admin.records import Issue
from services.runtime.config_models import DEPLOYMENTS_MAX
from services.runtime.model_names import matches
from services.runtime.price_book import PriceBook
from services.runtime.registry_models import RegistryModels, UnusableModel

__all__ = [
    "checked_model",
    "created_model",
    "deployed_model",
    "entries_of",
    "groups_of",
    "may_use",
    "model_row",
    "names_of",
    "updated_model",
]

_PLACEHOLDER = "set-where-the-proxy-runs"
_SHOWN_IF_SET = {
    "order": "order",
    "max_parallel_requests": "max_parallel_requests",
    "rpm": "rpm",
    "tpm": "tpm",
    "stream_timeout_s": "stream_timeout",
}


def created_model(body: NewModel, issue: Issue) -> ModelRecord:
    """Return the record of a new model. Raises BadRequest, naming the field."""
    info = dict(body.model_info)
    model_id = info.pop("id", None)
    return _record(
        model_id=str(uuid.uuid4()) if model_id is None else model_id,
        model_name=body.model_name,
        litellm_params=_present(body.litellm_params),
        model_info=_present(info),
        created_at_us=issue.now_us,
        created_by=issue.by,
        updated_at_us=issue.now_us,
        updated_by=issue.by,
    )


def updated_model(record: ModelRecord, body: UpdateModel, issue: Issue) -> ModelRecord:
    """Return the record with what the body names changed. Raises BadRequest, naming the field."""
    changes: dict[str, Any] = {}
    if body.model_name is not UNSET:
        changes["model_name"] = body.model_name
    if body.litellm_params is not UNSET:
        changes["litellm_params"] = _present({**record.litellm_params, **body.litellm_params})
    info = {name: value for name, value in body.model_info.items() if name != "id"}
    changes["model_info"] = _present({**record.model_info, **info})
    changes |= {"updated_at_us": issue.now_us, "updated_by": issue.by}
    return _record(**{**msgspec.structs.asdict(record), **changes})


def checked_model(
    record: ModelRecord, config: GatewayConfig, others: Sequence[ModelRecord]
) -> ModelRecord:
    """Return a record that proxies can serve. Raises BadRequest, which lists every problem.

    Its variable counts as set: that is the business of each proxy. `others` are the registry's
    other live models.
    """
    count = len(config.deployments) + len(others)
    if count >= DEPLOYMENTS_MAX:
        raise BadRequest(f"there are {DEPLOYMENTS_MAX} models already: delete one first")
    _, unusable = _read(config, [record])
    if unusable:
        reason = unusable[0].reason
        fields = ("litellm_params", "model_info", "model_name")
        raise BadRequest(reason, param=next((f for f in fields if reason.startswith(f)), None))
    return record


def entries_of(
    config: GatewayConfig,
    models: Sequence[ModelRecord],
    book: PriceBook | None,
    now_us: int,
) -> list[ModelEntry]:
    """Return all deployments, the file's first. `book` None: the prices are not known now."""
    found = [
        ModelEntry(
            model_name=each.model_name,
            litellm_params=_shown_params(each),
            model_info=_facts(each.deployment_id, each, book, now_us, db_model=False),
        )
        for each in config.deployments
    ]
    usable, unusable = _read(config, models)
    deployments = {each.deployment_id: each for each in usable}
    reasons = {each.model_id: each.reason for each in unusable}
    for record in models:
        deployment = deployments.get(record.model_id)
        facts = (
            _facts(record.model_id, deployment, book, now_us, db_model=True)
            if deployment is not None
            else ModelFacts(
                id=record.model_id, db_model=True, unusable=reasons.get(record.model_id)
            )
        )
        found.append(
            ModelEntry(
                model_name=record.model_name,
                litellm_params=record.litellm_params,
                model_info=facts,
            )
        )
    return found


def groups_of(entries: Sequence[ModelEntry]) -> list[ModelGroup]:
    """Return the model names that can be asked for, in the order of the entries."""
    groups: dict[str, list[ModelEntry]] = {}
    for entry in entries:
        if entry.model_info.unusable is None:
            groups.setdefault(entry.model_name, []).append(entry)
    return [
        ModelGroup(
            model_group=name,
            providers=("anthropic",),
            deployments=len(members),
            input_cost_per_token=_dearest(members, "input_cost_per_token"),
            output_cost_per_token=_dearest(members, "output_cost_per_token"),
        )
        for name, members in groups.items()
    ]


def names_of(entries: Sequence[ModelEntry], config: GatewayConfig) -> list[str]:
    """Return the names that clients may ask for; a pattern stands for known models that it fits."""
    names: dict[str, None] = {}
    for group in groups_of(entries):
        names.update((name, None) for name in _spelled_out(group.model_group))
    aliases = config.router.model_group_alias
    names.update((name, None) for name in aliases if name not in config.router.hidden_aliases)
    return list(names)


def aliases_of(
    key: KeyRecord,
    owners: Sequence[Sequence[str]],
    entries: Sequence[ModelEntry],
    config: GatewayConfig,
) -> list[str]:
    """Return the aliases of a key's own that stand for a model which there is, and it may use.

    `owners` are the lists of models that bind it beside its own: they know no aliases of keys.
    """
    groups = [group.model_group for group in groups_of(entries)]
    found = []
    for alias, name in key.aliases.items():
        target = config.router.model_group_alias.get(name, name)
        is_there = any(matches(each, target) is not None for each in groups)
        lists = owners if may_use(key.models, alias) else (*owners, key.models)
        if is_there and all(may_use(each, name) or may_use(each, target) for each in lists):
            found.append(alias)
    return found


def deployed_model(
    config: GatewayConfig, models: Sequence[ModelRecord], model_name: str
) -> str | None:
    """Return the model that answers for a model name: that of its first deployment."""
    target = config.router.model_group_alias.get(model_name, model_name)
    found = [*config.deployments, *_read(config, models)[0]]
    for each in found:
        star = matches(each.model_name, target)
        if star is not None:
            return each.model.replace("*", star, 1)
    return None


def may_use(patterns: Sequence[str], model_name: str) -> bool:
    """Tell whether a key with these `models` may use a name. None listed: it may use all."""
    return not patterns or any(matches(each, model_name) is not None for each in patterns)


def model_row(record: ModelRecord) -> ModelRow:
    """Return a model of the registry as LiteLLM shows it."""
    return ModelRow(
        model_id=record.model_id,
        model_name=record.model_name,
        litellm_params=record.litellm_params,
        model_info={"id": record.model_id, "db_model": True, **record.model_info},
        created_at=time_from_us(record.created_at_us),
        created_by=record.created_by,
        updated_at=time_from_us(record.updated_at_us),
        updated_by=record.updated_by,
    )


def _read(
    config: GatewayConfig, models: Sequence[ModelRecord]
) -> tuple[tuple[Deployment, ...], tuple[UnusableModel, ...]]:
    """Return the deployments of models, as a proxy reads them that has all of their variables."""
    keys = (record.litellm_params.get("api_key") for record in models)
    environment = {
        key.removeprefix(ENVIRONMENT_PREFIX): _PLACEHOLDER for key in keys if isinstance(key, str)
    }
    return RegistryModels(config, environment).deployments(models)


def _record(**fields: Any) -> ModelRecord:
    try:
        return msgspec.convert(fields, ModelRecord)
    except msgspec.ValidationError as error:
        verdict, _, place = str(error).partition(" - at ")
        if "model_id" in place:
            raise BadRequest(
                "model_info.id must be 1 to 128 letters, digits, _, : or -", param="model_info"
            ) from None
        field = "model_info" if verdict.startswith("model_info") else "litellm_params"
        raise BadRequest(verdict, param=field) from None


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _shown_params(deployment: Deployment) -> dict[str, Any]:
    """Return a deployment of the file without any credential."""
    shown: dict[str, Any] = {
        "model": f"anthropic/{deployment.model}",
        "api_base": deployment.api_base,
        "timeout": deployment.timeout_s,
        "weight": deployment.weight,
    }
    for field, name in _SHOWN_IF_SET.items():
        value = getattr(deployment, field)
        if value is not None:
            shown[name] = value
    return shown


def _facts(
    model_id: str, deployment: Deployment, book: PriceBook | None, now_us: int, *, db_model: bool
) -> ModelFacts:
    prices: dict[str, Any] = {}
    if book is not None and "*" not in deployment.model:
        found = token_prices(book, deployment.model, now_us)
        prices = {name: plain_number(price) for name, price in found.items()}
    return ModelFacts(
        id=model_id,
        db_model=db_model,
        forwards_client_auth=deployment.forward_client_auth,
        **prices,
    )


def _dearest(members: Sequence[ModelEntry], name: str) -> Decimal | None:
    prices = [getattr(each.model_info, name) for each in members]
    return max((price for price in prices if price is not None), default=None)


def _spelled_out(name: str) -> Iterator[str]:
    if "*" not in name:
        yield name
        return
    for known in PriceBook.shipped().models:
        if matches(name, known.id) is not None:
            yield known.id
