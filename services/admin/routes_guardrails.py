"""The route that lists the guardrails of the configuration, in LiteLLM's shape."""

from typing import Literal

import msgspec
from litestar import Response, get

from schemas.guardrails import Guardrail, GuardrailAction, GuardrailMode
from services.admin.describing import Description, described
from services.admin.reading import answer_json
from services.admin.state import AdminState

__all__ = ["GUARDRAIL_ROUTES"]


class GuardrailParams(msgspec.Struct, frozen=True, kw_only=True):
    """What a guardrail is. Its further settings are not shown: they may be secrets."""

    guardrail: str
    mode: tuple[GuardrailMode, ...]
    action: GuardrailAction
    default_on: bool


class GuardrailRow(msgspec.Struct, frozen=True, kw_only=True):
    """One guardrail, under the name by which keys, teams and users choose it."""

    guardrail_name: str
    litellm_params: GuardrailParams
    guardrail_info: dict[str, str] = {}
    guardrail_definition_location: Literal["config"] = "config"


class GuardrailList(msgspec.Struct, frozen=True, kw_only=True):
    """All guardrails, in the order in which they are asked."""

    guardrails: tuple[GuardrailRow, ...]


@get(
    "/guardrails/list",
    opt=described(
        Description(
            summary="List guardrails",
            description=(
                "The guardrails of the configuration in force, in its order, without their "
                "settings: the names that `guardrails` of keys, teams and users may hold."
            ),
            tag="guardrails",
            answer=GuardrailList,
        ),
        access="read",
    ),
)
async def list_guardrails(admin: AdminState) -> Response[bytes]:
    """List the guardrails of the configuration."""
    return answer_json(GuardrailList(guardrails=tuple(map(_row, admin.guardrails))))


def _row(guardrail: Guardrail) -> GuardrailRow:
    return GuardrailRow(
        guardrail_name=guardrail.name,
        litellm_params=GuardrailParams(
            guardrail=guardrail.kind,
            mode=guardrail.modes,
            action=guardrail.action,
            default_on=guardrail.default_on,
        ),
    )


GUARDRAIL_ROUTES = (list_guardrails,)
