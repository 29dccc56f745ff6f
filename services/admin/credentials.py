"""Which credential a management request carries: a pure rule over its headers.

The order is LiteLLM's and the proxy's: `x-litellm-api-key`, then `Authorization: Bearer`, then
`x-api-key`. Anthropic's own credentials (`sk-ant-…`) are passed over: Claude Code sends them.
"""

from collections.abc import Iterable

from schemas.errors import BadRequest
from schemas.keys import KEY_LENGTH_MAX

__all__ = ["find_candidates"]

_BEARER = "bearer "
_ANTHROPIC = "sk-ant-"
_HEADERS = (b"x-litellm-api-key", b"authorization", b"x-api-key")


def find_candidates(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """Return the credentials that may be meant for tallygate, the first meant first.

    Header names are lower case. Raises BadRequest where one of the headers comes twice, or holds
    what no key holds: two programs could then take it for two different identities.
    """
    found: dict[bytes, str] = {}
    for name, value in headers:
        if name not in _HEADERS:
            continue
        text = value.decode("latin-1").strip()
        if name in found:
            raise BadRequest(f"the header {name.decode()} must be sent once")
        if len(text) > KEY_LENGTH_MAX + len(_BEARER) or not (text.isascii() and text.isprintable()):
            raise BadRequest(f"the header {name.decode()} holds what no key holds")
        found[name] = text
    gateway = _without_bearer(found.get(b"x-litellm-api-key", ""))
    if gateway:
        return [gateway]
    authorization = found.get(b"authorization", "")
    bearer = _without_bearer(authorization) if _has_bearer(authorization) else ""
    candidates = (bearer, found.get(b"x-api-key", ""))
    return [text for text in candidates if text and not text.startswith(_ANTHROPIC)]


def _has_bearer(value: str) -> bool:
    return value[: len(_BEARER)].lower() == _BEARER


def _without_bearer(value: str) -> str:
    return value[len(_BEARER) :].strip() if _has_bearer(value) else value
