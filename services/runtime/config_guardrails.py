"""Reading `guardrails:`, LiteLLM's list: what each looks at, for whom it holds, what it does."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from schemas.config import Settings
from schemas.errors import ConfigError
from schemas.guardrails import (
    GUARDRAILS_MAX,
    TEXT_KINDS,
    Guardrail,
    GuardrailAction,
    GuardrailMode,
    RequestRules,
)
from services.runtime.config_guardrail_keys import (
    COMMON_KEYS,
    GUARDRAIL_KINDS,
    LITELLM_GUARDRAILS,
    LITELLM_INSTEAD,
    LITELLM_WEBHOOK,
)
from services.runtime.config_keys import nearest
from services.runtime.config_reader import ConfigReader
from services.runtime.config_webhooks import read_webhook
from services.runtime.guardrail_scanners import scanner_of
from services.runtime.yaml_lines import Node

__all__ = ["read_guardrails"]

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Message = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]

_EARLIER = (
    "is done as pre_call: nothing is sent to a deployment before it has passed, and local checks "
    "take less than a millisecond"
)


def read_guardrails(
    reader: ConfigReader, node: Node | None, settings: Settings
) -> tuple[Guardrail, ...]:
    """Return the entries of `guardrails:`; what is wrong is noted, and then left out."""
    found: dict[str, Guardrail] = {}
    for place, item in enumerate(reader.items(node, "guardrails", GUARDRAILS_MAX)):
        where = f"guardrails[{place}]"
        guardrail = _read_one(reader, item, where, settings)
        if guardrail is None:
            continue
        if guardrail.name in found:
            reader.problem(
                item.line,
                f"{where} has the guardrail_name of an entry before it: give each its own "
                "(requests are not shared out among guardrails, each of them is asked)",
            )
            continue
        found[guardrail.name] = guardrail
    return tuple(found.values())


def _read_one(reader: ConfigReader, item: Node, where: str, settings: Settings) -> Guardrail | None:
    count = len(reader.problem_texts)
    if not isinstance(item.value, Mapping):
        reader.problem(item.line, f"{where} must be a mapping: guardrail_name and litellm_params")
        return None
    entry = reader.section(item, "guardrails", where)
    name = _line(reader, entry.get("guardrail_name"), _Name, f"{where}.guardrail_name")
    if name is None and len(reader.problem_texts) == count:
        reader.problem(item.line, f"{where}.guardrail_name is missing: keys and teams name it")
    params_node = entry.get("litellm_params")
    if params_node is None or not isinstance(params_node.value, Mapping):
        reader.problem(
            item.line, f"{where}.litellm_params is missing: a mapping with guardrail and mode"
        )
        return None
    where = f"{where}.litellm_params"
    kind = _kind(reader, params_node, where)
    if kind is None or name is None:
        return None
    guardrail = _common(reader, params_node, name, kind, where)
    if kind == "request_rules":
        params = reader.section(params_node, kind, where)
        guardrail = msgspec.structs.replace(
            guardrail, rules=_rules(reader, params, params_node, where)
        )
        if guardrail.action == "mask":
            reader.problem(
                params["action"].line,
                f"{where}.action: request_rules block or log, and mask nothing",
            )
    elif kind == "webhook":
        params = reader.section(params_node, kind, where)
        guardrail = read_webhook(reader, params, params_node, guardrail, settings, where)
    else:
        guardrail = _with_settings(reader, params_node, guardrail, where)
    return guardrail if len(reader.problem_texts) == count else None


def _common(reader: ConfigReader, node: Node, name: str, kind: str, where: str) -> Guardrail:
    """Return what every guardrail has."""
    assert isinstance(node.value, Mapping)
    params: Mapping[str, Node] = node.value
    modes = _modes(reader, params.get("mode"), node, f"{where}.mode")
    action: GuardrailAction | None = reader.typed(
        params.get("action"), GuardrailAction, f"{where}.action"
    )
    if modes and "pre_call" not in modes:
        if action in {"block", "mask"}:
            reader.problem(
                params["action"].line,
                f"{where}: {modes[0]} lets everything pass as it is (an answer goes on as it "
                "comes): take mode pre_call to block or mask",
            )
        action = "log"
    if "post_call" in modes and kind not in TEXT_KINDS:
        reader.problem(
            params["mode"].line, f"{where}.mode: {kind} looks at requests alone: take pre_call"
        )
    return Guardrail(
        name=name,
        kind=kind,
        modes=modes,
        action=action or "block",
        default_on=bool(reader.typed(params.get("default_on"), bool, f"{where}.default_on")),
        message=_line(reader, params.get("message"), _Message, f"{where}.message"),
    )


def _line(reader: ConfigReader, node: Node | None, wanted: Any, where: str) -> str | None:
    """Return a text that can be shown in one line."""
    text: str | None = reader.typed(node, wanted, where)
    if text is not None and node is not None and not text.isprintable():
        reader.problem(node.line, f"{where} must be one line of printable text")
        return None
    return text


def _kind(reader: ConfigReader, node: Node, where: str) -> str | None:
    assert isinstance(node.value, Mapping)
    entry = node.value.get("guardrail")
    kinds = ", ".join(GUARDRAIL_KINDS)
    where = f"{where}.guardrail"
    if entry is None or entry.value is None:
        reader.problem(node.line, f"{where} is missing: one of {kinds}")
        return None
    name = reader.text(entry, where)
    if name == LITELLM_WEBHOOK:
        return "webhook"
    if name is None or name in GUARDRAIL_KINDS:
        return name
    if name in LITELLM_INSTEAD:
        reader.problem(
            entry.line,
            f"{where}: LiteLLM's {name} is not supported by tallygate: {LITELLM_INSTEAD[name]}",
        )
    elif name in LITELLM_GUARDRAILS:
        reader.problem(
            entry.line,
            f"{where}: LiteLLM's {name} is not supported by tallygate, and requests would pass "
            f"unchecked; remove the entry or take one of {kinds}",
        )
    else:
        near = nearest(name, (*GUARDRAIL_KINDS, *LITELLM_GUARDRAILS))
        advice = f": did you mean {near}?" if near else f": it must be one of {kinds}"
        reader.problem(entry.line, f"{where} names no guardrail that is known{advice}")
    return None


def _modes(
    reader: ConfigReader, node: Node | None, params: Node, where: str
) -> tuple[GuardrailMode, ...]:
    """Return the modes; LiteLLM takes one or a list of them."""
    if node is None or node.value is None:
        reader.problem(params.line, f"{where} is missing: pre_call checks requests")
        return ()
    if isinstance(node.value, Mapping):
        reader.problem(
            node.line, f"{where}: modes by tags are not supported by tallygate; name one mode"
        )
        return ()
    items = node.value if isinstance(node.value, tuple) else (node,)
    found: dict[GuardrailMode, None] = {}
    for item in items:
        if item.value == "during_call":
            reader.notice(item.line, f"{where}: during_call {_EARLIER}")
            found["pre_call"] = None
            continue
        mode: GuardrailMode | None = reader.typed(item, GuardrailMode, where)
        if mode is not None:
            found[mode] = None
    return tuple(found)


def _rules(
    reader: ConfigReader, params: Mapping[str, Node], node: Node, where: str
) -> RequestRules:
    given = {
        field.name: value
        for field in msgspec.structs.fields(RequestRules)
        if (value := reader.typed(params.get(field.name), field.type, f"{where}.{field.name}"))
        is not None
    }
    if not any(name in params for name in RequestRules.__struct_fields__):
        names = ", ".join(RequestRules.__struct_fields__)
        reader.problem(node.line, f"{where} has no rule: give at least one of {names}")
    return RequestRules(**given)


def _with_settings(reader: ConfigReader, node: Node, guardrail: Guardrail, where: str) -> Guardrail:
    """Return a guardrail that looks at texts with its own settings, which its scanner checks."""
    assert isinstance(node.value, Mapping)
    for key, line in node.twice:
        reader.problem(line, f"{where}.{key[:64]} stands twice: keep one of them")
    count = len(reader.problem_texts)
    settings = {
        key: _filled(reader, each, where)
        for key, each in node.value.items()
        if key not in COMMON_KEYS
    }
    guardrail = msgspec.structs.replace(guardrail, settings=msgspec.json.encode(settings))
    if len(reader.problem_texts) == count:
        try:
            scanner_of(guardrail)
        except ConfigError as error:
            reader.problem(node.line, f"{where}: {error}")
    return guardrail


def _filled(reader: ConfigReader, node: Node, where: str) -> Any:
    """Return a node as plain values, variables of the environment filled in."""
    if isinstance(node.value, Mapping):
        return {key: _filled(reader, each, where) for key, each in node.value.items()}
    if isinstance(node.value, tuple):
        return [_filled(reader, each, where) for each in node.value]
    return reader.text(node, where) if isinstance(node.value, str) else node.value
