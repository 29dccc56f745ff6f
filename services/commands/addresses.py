"""Addresses of other parts that a command line or the environment names, checked as in the file."""

from schemas.errors import ConfigError
from services.runtime.config_addresses import AddressProblem, normal_admin_url, normal_nats_url

__all__ = ["checked_admin_url", "checked_metrics_address", "checked_nats_url"]

_PORT_MAX = 65_535


def checked_nats_url(text: str) -> str:
    """Return the address of a NATS server. Raises ConfigError, which does not quote it."""
    try:
        return normal_nats_url(text)
    except AddressProblem as problem:
        raise ConfigError(
            f"the NATS server's address (--nats-url, or $TALLYGATE_NATS_URL) {problem}"
        ) from None


def checked_admin_url(text: str) -> str:
    """Return the address of the admin service. Raises ConfigError."""
    try:
        return normal_admin_url(text)
    except AddressProblem as problem:
        raise ConfigError(
            f"the admin service's address (--admin-url, or $TALLYGATE_ADMIN_URL) {problem}"
        ) from None


def checked_metrics_address(text: str | None) -> tuple[str, int] | None:
    """Return the host and port of HOST:PORT, None for None. Raises ConfigError."""
    if text is None:
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) <= _PORT_MAX:
        raise ConfigError(
            f"{text!r} is no address for metrics (--metrics, or $TALLYGATE_METRICS): give "
            "HOST:PORT, as in 127.0.0.1:9464"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)
