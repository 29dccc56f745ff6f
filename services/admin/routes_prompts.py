"""The route that shows what one request asked and was answered, where that was stored."""

import zlib
from typing import Any

from litestar import Request, Response, get

from schemas.errors import InternalError, NotFound, Unavailable
from schemas.prompts import StoredPrompt, decode_prompt
from schemas.streams import PROMPTS, prompt_subject
from services.admin.bodies import PromptInfo, PromptQuery
from services.admin.describing import Description, described
from services.admin.reading import answer_json, read_query
from services.admin.state import AdminState
from services.runtime.bus import BusUnavailable

__all__ = ["PROMPT_ROUTES", "UNPACKED_BYTES_MAX"]

UNPACKED_BYTES_MAX = 16 * 1024 * 1024
"""Of a packed answer so much is shown; more is cut off, and that is said."""


@get(
    "/prompt/info",
    opt=described(
        Description(
            summary="Show what a request asked and was answered",
            description=(
                "The request's body and the answer's, word for word, where `store_prompts` of the "
                "key or of the configuration had them kept, and their retention is not over."
            ),
            tag="ledger",
            query=PromptQuery,
            answer=PromptInfo,
            example_query="request_id=tg_000645fb3c5a5000a1b2c3d4e5f6a7b8c9",
            errors=(400, 404),
        )
    ),
)
async def prompt_info(request: Request[Any, Any, Any], admin: AdminState) -> Response[bytes]:
    """Show one stored prompt."""
    query = read_query(request, PromptQuery)
    try:
        message = await admin.bus.last_message(PROMPTS.name, prompt_subject(query.request_id))
    except BusUnavailable:
        raise Unavailable(
            "stored prompts cannot be read at the moment (NATS is not there). Try again in some "
            "seconds"
        ) from None
    if message is None:
        raise NotFound(
            "nothing is stored of this request: there is none of this id, or neither its key nor "
            "the configuration says store_prompts, or its retention is over",
            param="request_id",
        )
    try:
        prompt = decode_prompt(message.payload)
    except ValueError:
        raise InternalError("What is stored of this request cannot be read") from None
    return answer_json(_shown(prompt))


def _shown(prompt: StoredPrompt) -> PromptInfo:
    response, is_cut = _unpacked(prompt)
    return PromptInfo(
        request_id=prompt.request_id,
        started_at_us=prompt.started_at_us,
        key_id=prompt.key_id,
        request=prompt.request.decode("utf-8", "replace"),
        is_request_cut=prompt.is_request_cut,
        status=prompt.status or None,
        response_type=prompt.response_type or None,
        response=response.decode("utf-8", "replace"),
        is_response_cut=prompt.is_response_cut or is_cut,
    )


def _unpacked(prompt: StoredPrompt) -> tuple[bytes, bool]:
    """Return the answer's bytes without their coding, and whether some are missing."""
    if prompt.response_coding not in {"gzip", "x-gzip", "deflate"}:
        return prompt.response, False
    # 47: gzip or zlib, told apart by the header.
    inflate = zlib.decompressobj(47)
    try:
        content = inflate.decompress(prompt.response, UNPACKED_BYTES_MAX)
    except zlib.error:
        return b"", True
    return content, not inflate.eof


PROMPT_ROUTES = (prompt_info,)
