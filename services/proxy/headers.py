"""Header rules, as pure functions over raw header lists (lower-case names, bytes).

What a client sends goes to the deployment unchanged, except for:
- hop-by-hop headers (RFC 9110 §7.6.1) and those that `Connection` names,
- what the gateway makes itself (`host`, `content-length`),
- credentials, which services.proxy.auth decides on,
- headers meant for a gateway (`x-litellm-*`, `x-tallygate-*`, `x-claude-gateway-*`), cookies and
  the traces of proxies (`forwarded`, `x-forwarded-*`, `via`), which would tell the deployment about
  the inside of the company.

`accept-encoding` is narrowed to the codings that the meter can read (gzip, deflate, identity).
"""

from functools import lru_cache

__all__ = [
    "METERED_CODINGS",
    "RawHeaders",
    "forwardable_request_headers",
    "forwardable_response_headers",
    "header_values",
    "nominated_by_connection",
]

RawHeaders = list[tuple[bytes, bytes]]

METERED_CODINGS = frozenset({b"gzip", b"x-gzip", b"deflate", b"identity"})

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_REQUEST_DROPPED = _HOP_BY_HOP | {
    b"host",
    b"content-length",
    b"expect",
    b"authorization",
    b"x-api-key",
    b"cookie",
    b"forwarded",
    b"via",
    b"x-real-ip",
}
_REQUEST_DROPPED_PREFIXES = (
    b"x-litellm-",
    b"x-tallygate-",
    b"x-claude-gateway-",
    b"x-forwarded-",
)
_RESPONSE_DROPPED = _HOP_BY_HOP | {b"set-cookie", b"alt-svc"}
_REMEMBERED_MAX = 1024
"""Clients send the same few dozen names: so many verdicts are kept, those used last …"""
_REMEMBERED_BYTES_MAX = 64
"""… on names that are no longer than this."""
_NEVER_NOMINATED = (b"authorization", b"x-api-key", b"anthropic-", b"content-")


def header_values(headers: RawHeaders, name: bytes) -> list[bytes]:
    """Return all values of a header, in order."""
    return [value for header, value in headers if header == name]


def nominated_by_connection(headers: RawHeaders) -> frozenset[bytes]:
    """Return the header names that `Connection` declares as hop-by-hop.

    Raises ValueError where it names a credential or an API header: that is an attempt to make a
    proxy lose it (RFC 9110 §7.6.1 forbids it).
    """
    values = header_values(headers, b"connection")
    if not values:
        return frozenset()
    names = {name.strip().lower() for value in values for name in value.split(b",")}
    for name in names:
        if name.startswith(_NEVER_NOMINATED):
            raise ValueError(f"the Connection header must not name {name.decode('latin-1')}")
    return frozenset(names)


def forwardable_request_headers(headers: RawHeaders) -> RawHeaders:
    """Return the client's end-to-end headers, in order, without credentials.

    Raises ValueError for a `Connection` header that names what must not be dropped.
    """
    nominated = nominated_by_connection(headers)
    kept: RawHeaders = []
    for header in headers:
        name = header[0]
        if not _is_forwarded(name) or name in nominated:
            continue
        if name == b"accept-encoding":
            kept.append((name, _metered_codings(header[1])))
            continue
        kept.append(header)
    return kept


def _is_forwarded(name: bytes) -> bool:
    """Tell whether a request header of this name may go to a deployment."""
    if len(name) > _REMEMBERED_BYTES_MAX:
        return _decide(name)
    return _decide_once(name)


def _decide(name: bytes) -> bool:
    # Some servers take `_` for `-`: a credential must not slip through under such a name.
    plain = name.replace(b"_", b"-")
    return plain not in _REQUEST_DROPPED and not plain.startswith(_REQUEST_DROPPED_PREFIXES)


_decide_once = lru_cache(maxsize=_REMEMBERED_MAX)(_decide)


def _metered_codings(value: bytes) -> bytes:
    """Return `accept-encoding` with the codings that can be metered; `identity` where none is."""
    kept = [
        coding.strip()
        for coding in value.split(b",")
        if coding.split(b";", 1)[0].strip().lower() in METERED_CODINGS
    ]
    return b", ".join(kept) or b"identity"


def forwardable_response_headers(headers: RawHeaders) -> RawHeaders:
    """Return the deployment's end-to-end headers, in order.

    `content-length` stays: the body goes through byte for byte. Cookies are dropped: they would
    belong to the gateway's host.
    """
    nominated = frozenset(
        name.strip().lower()
        for value in header_values(headers, b"connection")
        for name in value.split(b",")
    )
    return [
        header
        for header in headers
        if header[0] not in _RESPONSE_DROPPED and header[0] not in nominated
    ]
