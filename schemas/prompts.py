"""What was asked and answered, word for word: kept only where that is asked for."""

import zlib
from typing import Literal

import msgspec

__all__ = ["PROMPT_BODY_BYTES_MAX", "StoredPrompt", "decode_prompt", "encode_prompt"]

PROMPT_BODY_BYTES_MAX = 3 * 1024 * 1024
"""Of a request, and of an answer, so much is kept; the rest is cut off, and that is said. Both fit
a NATS message of 8 MB even where nothing in them can be packed."""
_PACKED_BYTES_MAX = 64 * 1024 * 1024


class StoredPrompt(msgspec.Struct, frozen=True, kw_only=True):
    """One request and its answer, as one message on PROMPTS; packed with zlib, as MessagePack.

    `request` and `response` are the bodies' bytes as the client sent them and the API answered
    them, the latter in the coding that `response_coding` names (as it came; empty: none). No header
    is in it but the two that say what the answer is. `status` 0: there was no answer.
    """

    request_id: str
    started_at_us: int
    key_id: str | None
    request: bytes
    is_request_cut: bool = False
    status: int = 0
    response: bytes = b""
    response_type: str = ""
    response_coding: str = ""
    is_response_cut: bool = False
    version: Literal[1] = 1


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StoredPrompt)


def encode_prompt(prompt: StoredPrompt) -> bytes:
    """Return the message's bytes."""
    return zlib.compress(_encoder.encode(prompt), level=1)


def decode_prompt(payload: bytes) -> StoredPrompt:
    """Read a message. Raises ValueError where it is not one."""
    unpacking = zlib.decompressobj()
    try:
        content = unpacking.decompress(payload, _PACKED_BYTES_MAX)
    except zlib.error as error:
        raise ValueError(f"not a stored prompt: {error}") from None
    try:
        return _decoder.decode(content)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a stored prompt: {error}") from None
