"""Reading the `tallygate:` section: each setting by its type and bounds in schemas.config."""

import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from schemas.config import Settings
from services.runtime.config_addresses import (
    AddressProblem,
    normal_admin_url,
    normal_host,
    normal_nats_url,
    normal_proxy_url,
)
from services.runtime.config_reader import ConfigReader
from services.runtime.yaml_lines import Node

__all__ = ["read_settings"]


def _hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(normal_host(host) for host in value))


def _paths(value: tuple[str, ...]) -> tuple[str, ...]:
    for path in value:
        if _PATH.fullmatch(path) is None:
            raise AddressProblem(
                "holds something else than paths of the API: each begins with /v1/, as in "
                "/v1/skills, and may have one `*` for any rest, as in /v1/skills/*"
            )
    return tuple(dict.fromkeys(value))


def _message(value: str) -> str:
    if not value.isprintable():
        raise AddressProblem("must be one line of printable text")
    return value


def _ca_file(value: str) -> str:
    """Return the path of a file of certificates, which is read once to see that it is one."""
    if not Path(value).is_absolute():
        raise AddressProblem("must be the whole path of a file, from / on")
    try:
        found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        found.load_verify_locations(value)
    except ssl.SSLError:
        raise AddressProblem("must be a file of certificates in PEM form") from None
    except OSError as error:
        raise AddressProblem(f"cannot be read: {error.strerror}") from None
    if not found.get_ca_certs():
        raise AddressProblem("must hold the certificate of a CA; those in it are of none")
    return value


_PATH = re.compile(r"/v1/[A-Za-z0-9_.~:@/-]*(\*[A-Za-z0-9_.~:@/-]*)?(?<!/)")
_CHECKS: Mapping[str, Callable[..., object]] = {
    "nats_url": normal_nats_url,
    "admin_url": normal_admin_url,
    "upstream_ca_file": _ca_file,
    "upstream_proxy": normal_proxy_url,
    "quack_host": normal_host,
    "oauth_hosts": _hosts,
    "insecure_http_hosts": _hosts,
    "pass_through_paths": _paths,
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
