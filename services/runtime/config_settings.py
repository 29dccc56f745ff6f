"""Reading the `tallygate:` section: each setting by its type and bounds in schemas.config."""

from collections.abc import Callable, Mapping

import msgspec

from schemas.config import Settings
from services.runtime.config_addresses import (
    AddressProblem,
    normal_admin_url,
    normal_host,
    normal_nats_url,
)
from services.runtime.config_reader import ConfigReader
from services.runtime.yaml_lines import Node

__all__ = ["read_settings"]


def _hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(normal_host(host) for host in value))


def _message(value: str) -> str:
    if not value.isprintable():
        raise AddressProblem("must be one line of printable text")
    return value


_CHECKS: Mapping[str, Callable[..., object]] = {
    "nats_url": normal_nats_url,
    "admin_url": normal_admin_url,
    "oauth_hosts": _hosts,
    "insecure_http_hosts": _hosts,
    "budget_message": _message,
}


def read_settings(reader: ConfigReader, node: Node | None) -> Settings:
    """Return the settings; those that are missing, null or wrong (which is noted) as by default."""
    section = reader.section(node, "tallygate", "tallygate")
    given: dict[str, object] = {}
    for field in msgspec.structs.fields(Settings):
        entry = section.get(field.name)
        where = f"tallygate.{field.name}"
        value = reader.typed(entry, field.type, where)
        if value is None or entry is None:
            continue
        check = _CHECKS.get(field.name)
        try:
            given[field.name] = check(value) if check else value
        except AddressProblem as problem:
            reader.problem(entry.line, f"{where} {problem}")
    return msgspec.convert(given, Settings)
