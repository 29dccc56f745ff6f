"""Addresses of other parts that a command line or the environment names, checked as in the file."""

from schemas.errors import ConfigError
from services.runtime.config_addresses import AddressProblem, normal_admin_url, normal_nats_url

__all__ = ["checked_admin_url", "checked_nats_url"]


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
