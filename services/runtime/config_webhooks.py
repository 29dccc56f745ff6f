"""Reading a guardrail of the kind `webhook`: which service is asked, and how."""

from collections.abc import Mapping
from typing import Any

import msgspec

from schemas.config import Settings
from schemas.guardrails import Guardrail, Webhook
from services.runtime.config_addresses import (
    AddressProblem,
    is_loopback,
    normal_host,
    split_url,
)
from services.runtime.config_guardrail_keys import LITELLM_WEBHOOK_PATH
from services.runtime.config_reader import ConfigReader
from services.runtime.yaml_lines import Node

__all__ = ["read_webhook"]


def read_webhook(
    reader: ConfigReader,
    params: Mapping[str, Node],
    node: Node,
    guardrail: Guardrail,
    settings: Settings,
    where: str,
) -> Guardrail:
    """Return a guardrail with the service that it asks; what is wrong is noted."""
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(Webhook):
        value = reader.typed(params.get(field.name), field.type, f"{where}.{field.name}")
        if value is not None:
            given[field.name] = value
    base: str | None = reader.text(params.get("api_base"), f"{where}.api_base")
    name = "url" if base is None else "api_base"
    if ("url" in given) == (base is not None):
        reader.problem(
            node.line,
            f"{where} must name the service, by url (its whole address) or by api_base (LiteLLM's "
            f"word: {LITELLM_WEBHOOK_PATH} is added), and not by both",
        )
        return guardrail
    if base is not None:
        base = base.rstrip("/")
        given["url"] = base.removesuffix(LITELLM_WEBHOOK_PATH) + LITELLM_WEBHOOK_PATH
    try:
        _check_url(given["url"], settings)
    except AddressProblem as problem:
        reader.problem(params[name].line, f"{where}.{name} {problem}")
        return guardrail
    if guardrail.action == "mask":
        reader.problem(
            params["action"].line,
            f"{where}.action: the service decides; leave it out, or take log",
        )
    return msgspec.structs.replace(guardrail, webhook=Webhook(**given))


def _check_url(url: str, settings: Settings) -> None:
    """Raise AddressProblem for an address that texts may not be sent to."""
    parts = split_url(url, ("https", "http"))
    host = normal_host(parts.hostname or "")
    if (
        parts.scheme == "http"
        and not is_loopback(host)
        and host not in settings.insecure_http_hosts
    ):
        raise AddressProblem(
            "must be https://, since what users say is sent to it (for a host of your own network, "
            "list it under `tallygate: insecure_http_hosts`)"
        )
