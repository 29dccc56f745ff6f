"""What the routes about models take and answer: LiteLLM's names and shapes."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from services.admin.bodies import Name

__all__ = [
    "DeleteModel",
    "DeletedModel",
    "GroupInfoQuery",
    "ListedModel",
    "ListedModels",
    "ModelEntry",
    "ModelFacts",
    "ModelGroup",
    "ModelGroups",
    "ModelInfoQuery",
    "ModelInfos",
    "ModelRow",
    "NewModel",
    "PatchModel",
    "UpdateModel",
]

ModelIdText = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+\Z")]


class NewModel(msgspec.Struct, frozen=True, kw_only=True):
    """POST /model/new: an entry as in `model_list`; without `model_info.id` its id is random."""

    model_name: Name
    litellm_params: dict[str, Any]
    model_info: dict[str, Any] = {}


class UpdateModel(msgspec.Struct, frozen=True, kw_only=True):
    """POST /model/update: `model_info.id` says which, the rest what changes.

    What is named in `litellm_params` and `model_info` is changed and the rest stays; null takes a
    value away.
    """

    model_info: dict[str, Any]
    model_name: Name | UnsetType = UNSET
    litellm_params: dict[str, Any] | UnsetType = UNSET


class PatchModel(msgspec.Struct, frozen=True, kw_only=True):
    """PATCH /model/{model_id}/update: what changes, as in POST /model/update."""

    model_name: Name | UnsetType = UNSET
    litellm_params: dict[str, Any] | UnsetType = UNSET
    model_info: dict[str, Any] = {}


class DeleteModel(msgspec.Struct, frozen=True, kw_only=True):
    """POST /model/delete: which model."""

    id: ModelIdText


class DeletedModel(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of POST /model/delete."""

    id: str
    message: str


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the registry, as LiteLLM's database row."""

    model_id: str
    model_name: str
    litellm_params: dict[str, Any]
    model_info: dict[str, Any]
    created_at: datetime
    created_by: str | None
    updated_at: datetime
    updated_by: str | None


class ModelInfoQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /model/info: all deployments, or one by its id."""

    litellm_model_id: ModelIdText | None = None


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a deployment. Prices are US dollars for one token, as they are in force.

    `db_model`: it is of the registry, not of the file. A price is null for a pattern, for a model
    without a price, and where the ledger could not be asked.
    """

    id: str
    db_model: bool
    mode: Literal["chat"] = "chat"
    litellm_provider: Literal["anthropic"] = "anthropic"
    input_cost_per_token: Decimal | None = None
    output_cost_per_token: Decimal | None = None
    cache_read_input_token_cost: Decimal | None = None
    cache_creation_input_token_cost: Decimal | None = None
    cache_creation_input_token_cost_above_1hr: Decimal | None = None
    forwards_client_auth: bool = False
    unusable: str | None = None


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment. No credential is in `litellm_params`, only the name of its variable."""

    model_name: str
    litellm_params: dict[str, Any]
    model_info: ModelFacts


class ModelInfos(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of GET /model/info."""

    data: tuple[ModelEntry, ...]


class GroupInfoQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /model_group/info: all model names, or one."""

    model_group: Name | None = None


class ModelGroup(msgspec.Struct, frozen=True, kw_only=True):
    """All deployments of one model name; prices are those of the dearest."""

    model_group: str
    providers: tuple[str, ...]
    deployments: int
    input_cost_per_token: Decimal | None
    output_cost_per_token: Decimal | None
    mode: Literal["chat"] = "chat"


class ModelGroups(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of GET /model_group/info."""

    data: tuple[ModelGroup, ...]


class ListedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model name in OpenAI's shape."""

    id: str
    object: Literal["model"] = "model"
    created: int = 1704067200
    owned_by: str = "anthropic"


class ListedModels(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of GET /models."""

    data: tuple[ListedModel, ...]
    object: Literal["list"] = "list"
