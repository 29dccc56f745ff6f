"""GET /v1/models and /v1/models/NAME, answered from memory."""

from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from schemas.errors import BadRequest, NotFound
from services.proxy import models
from services.proxy.admission import Admission
from services.proxy.answers import Scope, Send, send_bytes
from services.proxy.draft import Draft
from services.proxy.headers import RawHeaders, header_values
from services.proxy.paths import Found

__all__ = ["LIMIT_DEFAULT", "LIMIT_MAX", "answer_models", "page"]

LIMIT_DEFAULT = 20
LIMIT_MAX = 1000
"""As the API has them."""
_OK = 200
_NAME_SHOWN_MAX = 100


def page(names: list[str], query: dict[str, str]) -> dict[str, Any]:
    """Return a page of Anthropic's list: `limit`, and `after_id` or `before_id`.

    Raises BadRequest for values that the API does not take.
    """
    text = query.get("limit", str(LIMIT_DEFAULT))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= LIMIT_MAX:
        raise BadRequest(f"limit: a whole number from 1 to {LIMIT_MAX} is required")
    limit = int(text)
    after, before = query.get("after_id"), query.get("before_id")
    if after is not None and before is not None:
        raise BadRequest("Only one of after_id and before_id can be given")
    cursor = after if after is not None else before
    if cursor is not None and cursor not in names:
        what = "after_id" if after is not None else "before_id"
        raise BadRequest(f"{what}: there is no model {cursor[:_NAME_SHOWN_MAX]!r} for this key")
    if before is not None:
        rest = names[: names.index(before)]
        shown = rest[-limit:]
    else:
        rest = names if after is None else names[names.index(after) + 1 :]
        shown = rest[:limit]
    return models.anthropic_list(shown, has_more=len(rest) > len(shown))


async def answer_models(
    admission: Admission, draft: Draft, scope: Scope, found: Found, send: Send
) -> None:
    """Answer with the models that the key may use. Raises ApiError."""
    headers: RawHeaders = list(scope["headers"])
    admission.identify(headers, draft, scope["method"], found.path)
    assert draft.key is not None
    names = models.usable_names(draft.setup.router, draft.key, draft.owners)
    is_anthropic = bool(header_values(headers, b"anthropic-version"))
    if found.item_id is None:
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        first = {name: values[0] for name, values in query.items()}
        answer = page(names, first) if is_anthropic else models.openai_list(names)
    else:
        wanted = unquote(found.item_id)
        if wanted not in names:
            raise NotFound(f"There is no model {wanted[:_NAME_SHOWN_MAX]!r} for this key")
        make = models.anthropic_model if is_anthropic else models.openai_model
        answer = make(wanted)
    await send_bytes(send, _OK, msgspec.json.encode(answer))
