"""Guardrails as the configuration has them: which requests they look at, and what they do.

They are data: what can be asked of them is in their settings, and no code of a user's ever runs.
"""

from typing import Annotated, Literal, TypeAlias

import msgspec

__all__ = [
    "FINDINGS_MAX",
    "GUARDRAILS_MAX",
    "TEXT_KINDS",
    "Guardrail",
    "GuardrailAction",
    "GuardrailFinding",
    "GuardrailMode",
    "RequestRules",
    "Webhook",
]

GUARDRAILS_MAX = 50
"""A configuration has at most so many, and a key or team names at most so many."""

FINDINGS_MAX = 100
"""So many findings of one request are told one by one; the rest are one, of the rule `others`."""

TEXT_KINDS = ("secrets", "personal_data", "block_list")
"""The kinds that look at texts (services.guardrails, which is loaded where one of them is used)."""

GuardrailMode: TypeAlias = Literal["pre_call", "post_call", "logging_only"]
GuardrailAction: TypeAlias = Literal["block", "mask", "log"]

_KIB = 1024
_GIB = 1024 * 1024 * _KIB
_Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Names: TypeAlias = Annotated[tuple[_Name, ...], msgspec.Meta(max_length=1000)]


class RequestRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a request may ask for. A rule that is not given allows everything.

    Names may end with `*`, which stands for any rest. `tools_denied` are compared with the `name`
    and with the `type` of a tool.
    """

    max_tokens_max: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)] | None = None
    betas_allowed: _Names | None = None
    tools_denied: _Names | None = None
    request_bytes_max: Annotated[int, msgspec.Meta(ge=_KIB, le=_GIB)] | None = None
    system_required: bool | None = None


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """The service that a guardrail of the kind `webhook` asks.

    `url` is the whole address. `api_key` is sent as `x-api-key`; with `signing_key` each question
    is signed. Where there is no proper answer within `timeout_s`, `unreachable_fallback` says
    whether requests pass (`fail_open`).
    """

    url: str
    api_key: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)] | None = None
    signing_key: Annotated[str, msgspec.Meta(min_length=16, max_length=1024)] | None = None
    timeout_s: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 5.0
    unreachable_fallback: Literal["fail_closed", "fail_open"] = "fail_closed"


class Guardrail(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `guardrails`.

    With `default_on` it holds for all keys, else for those that name it, or whose team or user
    does. In the modes `logging_only` and `post_call`, alone, the action is `log`. `message` is
    added to what a refused user reads. `rules` belong to the kind `request_rules`; of the other
    kinds, which look at texts, `settings` are what their scanners take, as JSON; `webhook` asks a
    service instead.
    """

    name: str
    kind: str
    modes: tuple[GuardrailMode, ...] = ("pre_call",)
    action: GuardrailAction = "block"
    default_on: bool = False
    message: str | None = None
    rules: RequestRules = RequestRules()
    settings: bytes = b"{}"
    webhook: Webhook | None = None

    @property
    def looks_at_requests(self) -> bool:
        """Whether requests must pass it; those of `post_call` alone look at answers."""
        return self.modes != ("post_call",)

    @property
    def looks_at_answers(self) -> bool:
        """Whether answers are looked at."""
        return "post_call" in self.modes

    def __repr__(self) -> str:
        """Show no settings: they may hold what must not be seen."""
        return f"Guardrail({self.name!r}, {self.kind}, {self.action})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Return what rich's pretty printer may show."""
        return [("name", self.name), ("kind", self.kind), ("action", self.action)]


class GuardrailFinding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a guardrail found: which of its rules, and where. Never the text that was found.

    `place` is a part of the request's body such as `messages[3].content[1]`, `system`, `tools` or
    `headers`; `count` is how often the rule was met there.
    """

    rule: Annotated[str, msgspec.Meta(max_length=256)]
    category: Annotated[str, msgspec.Meta(max_length=256)]
    place: Annotated[str, msgspec.Meta(max_length=256)]
    count: Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)] = 1
