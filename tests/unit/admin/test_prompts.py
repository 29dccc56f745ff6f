"""A packed answer is shown unpacked, within a limit."""

import gzip
import zlib

import pytest

from schemas.prompts import StoredPrompt
from services.admin import routes_prompts
from services.admin.routes_prompts import _shown


def prompt(response: bytes, coding: str) -> StoredPrompt:
    return StoredPrompt(
        request_id="tg_1",
        started_at_us=1,
        key_id=None,
        request=b"{}",
        status=200,
        response=response,
        response_coding=coding,
    )


def test_a_packed_answer_is_shown_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given answers in the codings that deployments are asked for, whole, broken off and longer than
    # what is shown, then the text is there as far as it goes, and it is said where it is cut.
    text = b"data: hello\n\n" * 100
    for packed, coding in ((gzip.compress(text), "gzip"), (zlib.compress(text), "deflate")):
        assert _shown(prompt(packed, coding)).response.encode() == text
        assert not _shown(prompt(packed, coding)).is_response_cut
        broken = _shown(prompt(packed[:-12], coding))
        assert text.startswith(broken.response.encode())
        assert broken.is_response_cut
        assert _shown(prompt(b"no such coding", coding)).is_response_cut
    monkeypatch.setattr(routes_prompts, "UNPACKED_BYTES_MAX", 20)
    shown = _shown(prompt(gzip.compress(text), "gzip"))
    assert (shown.response.encode(), shown.is_response_cut) == (text[:20], True)
