"""The record of a virtual key from what a request asks for. Pure: no clock, no chance, no bus."""

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET

from schemas.errors import BadRequest
from schemas.keys import KEY_PREFIX, hash_key, key_name
from schemas.registry import KeyRecord
from services.admin.analysts import analyst_from, check_analyst
from services.admin.bodies import KEY_LENGTH_MIN, METADATA_BYTES_MAX, GenerateKey, KeySettings
from services.admin.bodies_rates import rate_changes
from services.admin.budgets import budget_changes
from services.admin.key_types import allowed_routes, model_aliases, typed
from services.runtime.durations import expiry_from

__all__ = [
    "Issue",
    "chosen_key_id",
    "created_record",
    "models_from",
    "updated_record",
]

_NEVER_EXPIRES = "-1"
"""LiteLLM's word for a key that lives for ever, in /key/update."""
_ALL_MODELS = "all-proxy-models"
_ALL_TEAM_MODELS = "all-team-models"
"""The models of the key's team, which bind its keys anyway."""
_MODELS_WITHOUT_MEANING = frozenset({"no-default-models"})


@dataclass(frozen=True, kw_only=True)
class Issue:
    """Who changes a key and when."""

    now_us: int
    by: str


def chosen_key_id(key: str) -> str:
    """Return the id of a key whose secret was chosen by the caller.

    It follows from the secret, so that two admins (or a later one) who choose the same secret
    meet on one subject of the registry, where only the first can write.
    """
    return "key_" + hash_key(f"tallygate key id {hash_key(key)}")[:24]


def created_record(body: GenerateKey, key: str, key_id: str, issue: Issue) -> KeyRecord:
    """Return a new key's record. Raises BadRequest where the request asks for what cannot be."""
    if body.key is not None:
        _check_chosen_key(body.key)
    body = typed(body)
    bare = KeyRecord(
        key_id=key_id,
        key_hash=hash_key(key),
        key_name=key_name(key),
        created_at_us=issue.now_us,
        created_by=issue.by,
    )
    return updated_record(bare, body, issue)


def updated_record(record: KeyRecord, settings: KeySettings, issue: Issue) -> KeyRecord:
    """Return the record with the given settings changed, and nothing else.

    Raises BadRequest, which names the field.
    """
    changes: dict[str, Any] = {}
    for field, target in (
        ("key_alias", "key_alias"),
        ("user_id", "user_id"),
        ("team_id", "team_id"),
    ):
        value = getattr(settings, field)
        if value is not UNSET:
            changes[target] = value
    if settings.models is not UNSET:
        changes["models"] = models_from(settings.models or ())
    if settings.tags is not UNSET:
        changes["tags"] = tuple(dict.fromkeys(settings.tags or ()))
    if settings.blocked is not UNSET:
        changes["blocked"] = bool(settings.blocked)
    changes |= budget_changes(settings, record, issue.now_us) | rate_changes(settings)
    if settings.duration is not UNSET:
        changes["expires_at_us"] = _expires_at_us(settings.duration, issue.now_us)
    if settings.metadata is not UNSET:
        changes["metadata"] = _metadata(settings.metadata or {})
    if settings.names_end_users is not UNSET:
        changes["names_end_users"] = bool(settings.names_end_users)
    if settings.analyst is not UNSET:
        team_id = changes.get("team_id", record.team_id)
        changes["analyst"] = analyst_from(settings.analyst, team_id)
    if settings.store_prompts is not UNSET:
        changes["store_prompts"] = settings.store_prompts
    if settings.on_quota_exhausted is not UNSET:
        changes["on_quota_exhausted"] = settings.on_quota_exhausted
    if settings.guardrails is not UNSET:
        changes["guardrails"] = tuple(dict.fromkeys(settings.guardrails or ()))
    if settings.allowed_routes is not UNSET:
        changes["allowed_routes"] = allowed_routes(settings.allowed_routes or ())
    if settings.aliases is not UNSET:
        changes["aliases"] = model_aliases(settings.aliases or {})
    check_analyst(msgspec.structs.replace(record, **changes))
    return msgspec.structs.replace(
        record, **changes, updated_at_us=issue.now_us, updated_by=issue.by
    )


def _check_chosen_key(key: str) -> None:
    if not key.startswith(KEY_PREFIX):
        raise BadRequest(f"a key must begin with {KEY_PREFIX}", param="key")
    if key.startswith("sk-ant-"):
        raise BadRequest("sk-ant- begins Anthropic's own keys: choose another", param="key")
    if len(key) < KEY_LENGTH_MIN:
        raise BadRequest(f"a key must have at least {KEY_LENGTH_MIN} characters", param="key")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise BadRequest("a key may hold only visible ASCII characters", param="key")


def models_from(models: tuple[str, ...]) -> tuple[str, ...]:
    """Return a list of models as records have it. Raises BadRequest."""
    for model in models:
        if model in _MODELS_WITHOUT_MEANING:
            raise BadRequest(
                f"{model} has no effect in tallygate, so it is not accepted: list the models, "
                f"or leave models out to allow all ({_ALL_MODELS} does the same)",
                param="models",
            )
    is_all = _ALL_MODELS in models or _ALL_TEAM_MODELS in models
    return () if is_all else tuple(dict.fromkeys(models))


def _expires_at_us(text: str | None, now_us: int) -> int | None:
    if text is None or text == _NEVER_EXPIRES:
        return None
    try:
        return expiry_from(text, now_us)
    except ValueError as error:
        raise BadRequest(f"duration: {error}", param="duration") from None


def _metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(msgspec.json.encode(metadata)) > METADATA_BYTES_MAX:
        raise BadRequest(f"metadata is longer than {METADATA_BYTES_MAX} bytes", param="metadata")
    return metadata
