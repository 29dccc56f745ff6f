"""The rate limits of keys, teams and users: LiteLLM's fields, and what records make of them."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas.registry import RATE_MAX, RATE_MODELS_MAX, LimitedRecord

__all__ = ["RateSettings", "RatesShown", "rate_changes", "rates_shown"]

Rate = Annotated[int, Meta(ge=1, le=RATE_MAX)]
_Model = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+\Z")]
ModelRates = Annotated[dict[_Model, Rate], Meta(max_length=RATE_MODELS_MAX)]


class RateSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Requests and tokens a minute, of all models or of one, and requests under way at a time."""

    rpm_limit: Rate | UnsetType | None = UNSET
    tpm_limit: Rate | UnsetType | None = UNSET
    max_parallel_requests: Rate | UnsetType | None = UNSET
    model_rpm_limit: ModelRates | UnsetType | None = UNSET
    model_tpm_limit: ModelRates | UnsetType | None = UNSET


class RatesShown(msgspec.Struct, frozen=True, kw_only=True):
    """The same as they are shown; null or empty: there is no such limit."""

    rpm_limit: int | None = None
    tpm_limit: int | None = None
    max_parallel_requests: int | None = None
    model_rpm_limit: dict[str, int] = {}
    model_tpm_limit: dict[str, int] = {}


def rate_changes(settings: RateSettings) -> dict[str, Any]:
    """Return the fields of a record that set its rate limits."""
    changes: dict[str, Any] = {}
    for name in RateSettings.__struct_fields__:
        value = getattr(settings, name)
        if value is not UNSET:
            changes[name] = (value or {}) if name.startswith("model_") else value
    return changes


def rates_shown(record: LimitedRecord) -> dict[str, Any]:
    """Return the fields of RatesShown."""
    return {name: getattr(record, name) for name in RatesShown.__struct_fields__}
