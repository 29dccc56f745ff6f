"""Checking addresses and hosts of the configuration: a credential must not go astray."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

__all__ = [
    "AddressProblem",
    "is_loopback",
    "normal_admin_url",
    "normal_api_base",
    "normal_host",
    "normal_nats_url",
    "normal_proxy_url",
    "split_url",
]

_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?")
_URL = re.compile(r"[!-~]{1,2048}")


class AddressProblem(ValueError):
    """An address or host that is not accepted; the message says why, without quoting it."""


def normal_host(text: str) -> str:
    """Return a host as it is compared: lower case, no port, IPv6 without brackets.

    Raises AddressProblem for anything else, a URL or a port among it.
    """
    host = text.strip().lower().removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    if len(host) > 253 or not _HOST.fullmatch(host):  # noqa: PLR2004 - DNS's limit
        raise AddressProblem("must be a host alone, such as gateway.example.com: no scheme or port")
    return host.removesuffix(".")


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def split_url(text: str, schemes: tuple[str, ...], *, credentials: bool = False) -> SplitResult:
    """Return a URL's parts if it is whole: a scheme of those given, a host, a sane port.

    `credentials` allows a user and password in it. Raises AddressProblem.
    """
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    if not _URL.fullmatch(text) or "\\" in text:
        raise AddressProblem(f"must be a URL that begins with {wanted}")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise AddressProblem("must be a whole URL: its host or port cannot be read") from None
    if parts.scheme not in schemes or not parts.hostname or port == 0:
        raise AddressProblem(f"must be a URL that begins with {wanted} and names a host")
    if "@" in parts.netloc and not credentials:
        raise AddressProblem("must not hold a user name or password")
    normal_host(parts.hostname)
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise AddressProblem("must not hold a query or fragment (? or #)")
    return parts


def normal_api_base(text: str, insecure_http_hosts: tuple[str, ...]) -> str:
    """Return an upstream's address without a slash or `/v1/messages` at its end.

    Plain http is for loopback and for the hosts given alone, since it carries credentials.
    Raises AddressProblem.
    """
    parts = split_url(text, ("https", "http"))
    host = normal_host(parts.hostname or "")
    if parts.scheme == "http" and not is_loopback(host) and host not in insecure_http_hosts:
        raise AddressProblem(
            "must be https://, since credentials are sent to it (for a host of your own network, "
            "list it under `tallygate: insecure_http_hosts`)"
        )
    path = parts.path.rstrip("/").removesuffix("/v1/messages").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc.lower()}{path.rstrip('/')}"


def normal_nats_url(text: str) -> str:
    """Return the address of a NATS server, which may hold a user and password.

    Raises AddressProblem.
    """
    split_url(text, ("nats", "tls"), credentials=True)
    return text


def normal_admin_url(text: str) -> str:
    """Return the address of the admin service without a slash at its end. Raises AddressProblem."""
    split_url(text, ("http", "https"))
    return text.rstrip("/")


def normal_proxy_url(text: str) -> str:
    """Return the address of an HTTP proxy, which may hold a user and password.

    Raises AddressProblem.
    """
    parts = split_url(text, ("http",), credentials=True)
    if parts.path not in {"", "/"}:
        raise AddressProblem("must end after its host and port")
    return text.removesuffix("/")
