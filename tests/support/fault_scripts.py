"""The corpus of faults: what a deployment does, what a client sees of it, and what is booked.

docs/faults.md has a row for each; tests/contracts/test_faults_documented.py holds the two together.
"""

import gzip
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.support.scripted import Close, Step

__all__ = ["GOOD", "SCRIPTS", "SSE", "SSE_END", "Books", "Script", "chunk", "message", "stream"]

USAGE = {"input_tokens": 11, "output_tokens": 5, "cache_read_input_tokens": 7}
MESSAGE = json.dumps({"id": "m", "type": "message", "usage": USAGE}).encode()
START = b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","usage":'
SSE = (
    START + b'{"input_tokens":11,"cache_read_input_tokens":7,"output_tokens":1}}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"12345678"}}\n\n'
)
SSE_END = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":5}}'
    b'\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
)
HEAD = b"HTTP/1.1 200 OK\r\n"
JSON = b"content-type: application/json\r\n"
STREAM = b"content-type: text/event-stream\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
GZIP = b"content-encoding: gzip\r\n"
LAST = b"0\r\n\r\n"
MIB = 1024 * 1024

Books = Literal["whole", "seen", "guessed", "none"]
"""The usage of the record: as reported; as reported so far; from the bytes; there is none."""


@dataclass(frozen=True)
class Script:
    """What the deployment does (`steps`, `close`) and what must come of it.

    `sees` is the client's side: a status, "cut" behind it where the answer breaks off, "error
    event" where Anthropic's event ends it. `booked` is "success" or the record's `error_type`.
    """

    name: str
    steps: Sequence[Step] = field(repr=False)
    close: Close
    sees: str
    booked: str | tuple[str, ...]
    usage: Books = "none"
    is_unread: bool = False


def length(body: bytes, off: int = 0) -> bytes:
    return b"content-length: %d\r\n" % (len(body) + off)


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def message(*headers: bytes, body: bytes = MESSAGE, line: bytes = HEAD) -> bytes:
    """Return an answer of JSON with these headers; its length must be among them."""
    return line + JSON + b"".join(headers) + b"\r\n" + body


def stream(*parts: bytes) -> bytes:
    """Return the beginning of a chunked stream."""
    return HEAD + STREAM + CHUNKED + b"\r\n" + b"".join(parts)


GOOD = message(length(MESSAGE))
_WHOLE_STREAM = stream(chunk(SSE + SSE_END), LAST)
_PACKED = gzip.compress(SSE + SSE_END)
_BOMB = gzip.compress(SSE + b"event: ping\ndata: " + bytes(64 * MIB) + b"\n\n" + SSE_END)
_GARBAGE = random.Random(18).randbytes(2000)
_ERROR = b'{"type":"error","error":{"type":"%b","message":"no"}}'
_UPGRADE = b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"
_UNCHANGED = b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\nhello"
_BUSY = _ERROR % b"rate_limit_error"
_GIANT = b"x" * MIB
_TEXT = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
_TEXT += b'{"type":"text_delta","text":"'
_NO_ANSWER = "upstream_no_answer", "upstream_stale"

SCRIPTS: tuple[Script, ...] = (
    # ------------------------------------------------------------------------------ as it should be
    Script("good", (GOOD,), "keep", "200", "success", "whole"),
    Script("good_stream", (_WHOLE_STREAM,), "keep", "200", "success", "whole"),
    Script("byte_by_byte", tuple(GOOD[i : i + 1] for i in range(len(GOOD))), "keep", "200",
           "success", "whole"),
    Script("no_keep_alive", (message(length(MESSAGE), b"connection: close\r\n"),), "fin", "200",
           "success", "whole"),
    Script("http_1_0", (message(line=b"HTTP/1.0 200 OK\r\n"),), "fin", "200", "success", "whole"),
    Script("ends_with_close", (message(),), "fin", "200", "success", "whole"),
    Script("stream_ends_with_close", (HEAD + STREAM + b"\r\n" + SSE + SSE_END,), "fin", "200",
           "success", "whole"),
    Script("packed", (HEAD + STREAM + GZIP + length(_PACKED) + b"\r\n" + _PACKED,), "keep", "200",
           "success", "whole"),
    Script("trailers", (stream(chunk(SSE + SSE_END), b"0\r\nx-trailer: y\r\n\r\n"),), "keep",
           "200", "success", "whole"),
    Script("chunk_extensions", (stream(chunk(SSE + SSE_END).replace(
        b"\r\n", b";ext=" + b"z" * 500 + b"\r\n", 1), LAST),), "keep", "200", "success", "whole"),
    Script("tiny_chunks", (stream(*(chunk(bytes((byte,))) for byte in SSE + SSE_END), LAST),),
           "keep", "200", "success", "whole"),
    Script("late_chunks", (stream(chunk(SSE)), 0.3, chunk(SSE_END), 0.3, LAST), "keep", "200",
           "success", "whole"),
    # ---------------------------------------------------------------------------- interim answers
    Script("early_hints", (b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 3 + GOOD,), "keep",
           "200", "success", "whole"),
    Script("unasked_continue", (b"HTTP/1.1 100 Continue\r\n\r\n" * 100 + GOOD,), "keep", "200",
           "success", "whole"),
    Script("processing_and_silence", (b"HTTP/1.1 102 Processing\r\n\r\n",), "hold", "504",
           "upstream_timeout"),
    Script("hints_without_end", (b"HTTP/1.1 103 Early Hints\r\nlink: </%b>\r\n\r\n"
           % (b"x" * 500),) * 300, "hold", "502", "upstream_garbage"),
    Script("protocol_change", (_UPGRADE,), "hold", "502", "upstream_garbage"),
    # ---------------------------------------------------------------------------------- no answer
    Script("closed_at_once", (), "fin", "502", _NO_ANSWER),
    Script("reset_at_once", (), "reset", "502", _NO_ANSWER),
    Script("silence", (), "hold", "504", "upstream_timeout"),
    Script("half_status_line", (b"HTTP/1.1 2",), "fin", "502", "upstream_no_answer"),
    Script("half_headers", (HEAD + b"content-ty",), "fin", "502", "upstream_no_answer"),
    Script("half_headers_then_reset", (HEAD + b"content-ty", 0.5), "reset", "502",
           "upstream_no_answer"),
    Script("half_headers_then_silence", (HEAD + b"content-ty",), "hold", "504",
           "upstream_timeout"),
    Script("headers_drip", (HEAD, *((b"x-drip: 1\r\n", 0.1) * 80)), "hold", "504",
           "upstream_timeout"),
    Script("garbage", (_GARBAGE,), "fin", "502", "upstream_garbage"),
    Script("tls_alert", (b"\x15\x03\x01\x00\x02\x02\x28",), "fin", "502", "upstream_garbage"),
    Script("http_2_preface", (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",), "fin", "502",
           "upstream_garbage"),
    Script("http_0_9", (MESSAGE,), "fin", "502", "upstream_garbage"),
    # ----------------------------------------------------------------------------- odd statuses
    Script("status_999", (b"HTTP/1.1 999 Odd\r\n" + length(b"") + b"\r\n",), "keep", "502",
           "upstream_garbage"),
    Script("status_42", (b"HTTP/1.1 042 Odd\r\n" + length(b"") + b"\r\n",), "keep", "502",
           "upstream_garbage"),
    Script("no_content_with_length", (b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n",),
           "keep", "204", "not_an_answer"),
    Script("no_content_with_body", (b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello",),
           "keep", "204", "not_an_answer"),
    Script("not_modified_with_body", (_UNCHANGED,), "keep", "502", "redirect"),
    Script("redirect", (b"HTTP/1.1 307 Go\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n",), "keep",
           "502", "redirect"),
    Script("error_500", (message(length(b"{}"), body=b"{}", line=b"HTTP/1.1 500 Bad\r\n"),),
           "keep", "500", "http_500"),
    Script("error_529_empty", (b"HTTP/1.1 529 Busy\r\n" + length(b"") + b"\r\n",), "keep", "529",
           "http_529"),
    Script("error_503_html", (b"HTTP/1.1 503 No\r\ncontent-type: text/html\r\n" + length(b"<p>")
           + b"\r\n<p>",), "keep", "503", "http_503"),
    Script("rate_limited", (message(length(_BUSY), b"retry-after: 7\r\n", body=_BUSY,
           line=b"HTTP/1.1 429 Slow\r\n"),), "keep", "429", "rate_limit_error"),
    Script("error_cut", (message(length(_BUSY, 9), body=_BUSY, line=b"HTTP/1.1 500 Bad\r\n"),),
           "fin", "500 cut", "upstream_broke"),
    # ------------------------------------------------------------------------------ odd headers
    Script("control_in_header", (message(b"x-odd: a\x01b\r\n", length(MESSAGE)),), "fin", "502",
           "upstream_garbage"),
    Script("nul_in_header", (message(b"x-odd: a\x00b\r\n", length(MESSAGE)),), "fin", "502",
           "upstream_garbage"),
    Script("delete_in_header", (message(b"x-odd: a\x7fb\r\n", length(MESSAGE)),), "fin", "502",
           "upstream_garbage"),
    Script("odd_header_name", (message(b"x(odd): a\r\n", length(MESSAGE)),), "fin", "502",
           "upstream_garbage"),
    Script("space_before_colon", (message(b"x-odd : a\r\n", length(MESSAGE)),), "fin", "502",
           "upstream_garbage"),
    Script("folded_header", (message(b"x-odd: a\r\n b\r\n", length(MESSAGE)),), "fin", "502",
           "upstream_garbage"),
    Script("bare_line_feeds", (GOOD.replace(b"\r\n", b"\n"),), "fin", "502", "upstream_garbage"),
    Script("long_headers", (HEAD + b"x-long: " + b"y" * 70_000 + b"\r\n\r\n",), "fin", "502",
           "upstream_garbage"),
    Script("many_headers", (HEAD + b"x-h: y\r\n" * 250 + b"\r\n",), "fin", "502",
           "upstream_garbage"),
    Script("header_without_end", (HEAD + b"x-long: ", *((b"y" * 16_384,) * 640)), "hold", "502",
           "upstream_garbage"),
    Script("latin_header", (message(b"x-odd: caf\xe9\r\n", length(MESSAGE)),), "keep", "200",
           "success", "whole"),
    # --------------------------------------------------------------------------------- lengths
    Script("less_than_length", (message(length(MESSAGE, 50)),), "fin", "200 cut",
           "upstream_broke", "guessed"),
    Script("less_than_length_then_reset", (message(length(MESSAGE, 50)), 0.5), "reset", "200 cut",
           "upstream_broke", "guessed"),
    Script("less_than_length_then_silence", (message(length(MESSAGE, 50)),), "hold", "200 cut",
           "upstream_silent", "guessed"),
    Script("more_than_length", (message(length(MESSAGE), body=MESSAGE + b"}}}"),), "keep", "200",
           "success", "whole"),
    Script("ends_with_reset", (message(body=MESSAGE[:10]), 0.5), "reset", "200 cut",
           "upstream_broke", "guessed"),
    Script("two_lengths", (message(length(MESSAGE), length(MESSAGE, 1)),), "fin", "502",
           "upstream_garbage"),
    Script("same_length_twice", (message(length(MESSAGE), length(MESSAGE)),), "fin", "502",
           "upstream_garbage"),
    Script("negative_length", (message(b"content-length: -1\r\n"),), "fin", "502",
           "upstream_garbage"),
    Script("length_of_words", (message(b"content-length: ten\r\n"),), "fin", "502",
           "upstream_garbage"),
    Script("length_beyond_all", (message(b"content-length: 99999999999999999999\r\n"),), "fin",
           "502", "upstream_garbage"),
    Script("length_and_chunked", (message(length(MESSAGE), CHUNKED, body=chunk(MESSAGE) + LAST),),
           "fin", "502", "upstream_garbage"),
    Script("unknown_coding", (message(b"transfer-encoding: zip\r\n"),), "fin", "502",
           "upstream_garbage"),
    # ---------------------------------------------------------------------------------- chunks
    Script("half_chunk", (stream(chunk(SSE), b"50\r\nhalf"),), "fin", "200 cut", "upstream_broke",
           "seen"),
    Script("half_chunk_then_reset", (stream(chunk(SSE), b"50\r\nhalf"), 0.5), "reset", "200 cut",
           "upstream_broke", "seen"),
    Script("bad_chunk_size", (stream(chunk(SSE), b"zz\r\n"),), "fin", "200 error event",
           "upstream_broke", "seen"),
    Script("negative_chunk_size", (stream(chunk(SSE), b"-5\r\n"),), "fin", "200 error event",
           "upstream_broke", "seen"),
    Script("chunk_beyond_all", (stream(chunk(SSE), b"f" * 17 + b"\r\n"),), "fin",
           "200 error event", "upstream_broke", "seen"),
    Script("chunk_longer_than_said", (stream(chunk(SSE), b"1\r\nab\r\n"),), "fin", "200 cut",
           "upstream_broke", "seen"),
    Script("empty_chunk_in_between", (stream(chunk(SSE), LAST, chunk(SSE_END), LAST),), "keep",
           "200", "incomplete_answer", "seen"),
    Script("no_last_chunk", (stream(chunk(SSE)),), "fin", "200 error event", "upstream_broke",
           "seen"),
    Script("no_last_chunk_after_all", (stream(chunk(SSE + SSE_END)), 0.5), "reset",
           "200 error event", "success", "whole"),
    # -------------------------------------------------------------------------------- streams
    Script("reset_after_head", (stream(), 0.5), "reset", "200 error event", "upstream_broke",
           "guessed"),
    Script("reset_in_stream", (stream(chunk(SSE)), 0.5), "reset", "200 error event",
           "upstream_broke", "seen"),
    Script("reset_in_event", (stream(chunk(SSE + b"event: x")), 0.5), "reset", "200 cut",
           "upstream_broke", "seen"),
    Script("silence_after_head", (stream(),), "hold", "200 error event", "upstream_silent",
           "guessed"),
    Script("silence_in_stream", (stream(chunk(SSE)),), "hold", "200 error event",
           "upstream_silent", "seen"),
    Script("silence_in_event", (stream(chunk(SSE + b"event: x")),), "hold", "200 cut",
           "upstream_silent", "seen"),
    Script("ends_without_stop", (stream(chunk(SSE), LAST),), "keep", "200", "incomplete_answer",
           "seen"),
    Script("giant_event", (stream(chunk(SSE), b"%x\r\n" % (100 * MIB + len(_TEXT) + 5),
           _TEXT), *((_GIANT,) * 100), b'"}}\n\n\r\n', chunk(SSE_END), LAST), "keep", "200",
           "success", "whole"),
    # ------------------------------------------------------------------------------- contents
    Script("html", (HEAD + b"content-type: text/html\r\n" + length(b"<p>") + b"\r\n<p>",), "keep",
           "200", "not_an_answer"),
    Script("json_without_usage", (message(length(b"{}"), body=b"{}"),), "keep", "200", "success",
           "guessed"),
    Script("json_that_is_none", (message(length(b"{{{"), body=b"{{{"),), "keep", "200",
           "incomplete_answer", "guessed"),
    Script("packed_garbage", (message(GZIP, length(_GARBAGE), body=_GARBAGE),), "keep", "200",
           "incomplete_answer", "guessed"),
    Script("packed_cut_short", (HEAD + STREAM + GZIP + length(_PACKED[:-30]) + b"\r\n"
           + _PACKED[:-30],), "keep", "200", "incomplete_answer", "seen"),
    Script("packed_bomb", (HEAD + STREAM + GZIP + length(_BOMB) + b"\r\n" + _BOMB,), "keep", "200",
           "incomplete_answer", "seen"),
    # ------------------------------------------------------------------- between two requests
    Script("two_answers", (GOOD + GOOD.replace(b"200 OK", b"418 No"),), "keep", "200", "success",
           "whole"),
    Script("garbage_behind", (GOOD + b"\x00\xffgarbage",), "keep", "200", "success", "whole"),
    Script("answer_to_an_unread_request", (_WHOLE_STREAM,), "hold", "200", "success", "whole",
           is_unread=True),
)  # fmt: skip
