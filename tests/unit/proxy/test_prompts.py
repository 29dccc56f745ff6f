"""What waits for being stored is bounded, and what is stored can be read again."""

import asyncio
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.prompts import StoredPrompt, decode_prompt, encode_prompt
from services.proxy import prompts
from services.proxy.prompts import Prompts
from services.runtime.bus import BusUnavailable


class FakeBus:
    """Counts what is published; refuses as long as it is told to."""

    def __init__(self, *, failures: int = 0) -> None:
        self.failures = failures
        self.published: list[tuple[str, bytes]] = []

    async def publish(self, subject: str, payload: bytes, *, message_id: str) -> int:
        if self.failures:
            self.failures -= 1
            raise BusUnavailable("gone")
        assert subject.endswith(message_id)
        self.published.append((subject, payload))
        return len(self.published)


def prompt(number: int, size: int = 10) -> StoredPrompt:
    return StoredPrompt(
        request_id=f"tg_{number}", started_at_us=1, key_id="key_1", request=b"x" * size
    )


async def publish(waiting: Prompts, bus: FakeBus) -> None:
    task = asyncio.create_task(waiting.publish_for_ever(bus))  # type: ignore[arg-type]
    await waiting.flush(5.0)
    task.cancel()


@given(st.binary(), st.binary(), st.text(), st.integers(0, 999))
def test_what_is_stored_is_read_again(
    request: bytes, answer: bytes, kind: str, status: int
) -> None:
    # Given any bodies, when they are packed and unpacked, then they are the same.
    stored = StoredPrompt(
        request_id="tg_1",
        started_at_us=1,
        key_id=None,
        request=request,
        status=status,
        response=answer,
        response_type=kind,
    )
    assert decode_prompt(encode_prompt(stored)) == stored


@given(st.binary())
def test_other_bytes_are_refused(payload: bytes) -> None:
    # Given bytes that are no stored prompt, packed or not, then that is said.
    for each in (payload, zlib.compress(payload)):
        with pytest.raises(ValueError, match="not a stored prompt"):
            decode_prompt(each)


def test_what_finds_no_room_is_left_out_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Given room for 100 bytes, when 150 come, then what is beyond is left out, counted, and logged
    # without its text; what is published makes room again.
    monkeypatch.setattr(prompts, "PROMPTS_WAITING_BYTES_MAX", 100)
    waiting, bus = Prompts(), FakeBus()
    for number in range(3):
        waiting.put(prompt(number, 50))
    assert waiting.left_out == 1
    assert "xxx" not in caplog.text
    asyncio.run(publish(waiting, bus))
    waiting.put(prompt(3, 100))
    asyncio.run(publish(waiting, bus))
    assert [subject for subject, _ in bus.published] == [f"prompt.tg_{n}" for n in (0, 1, 3)]
    assert (waiting.stored, waiting.left_out) == (3, 1)


def test_nats_that_is_away_for_a_moment_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a NATS that fails some times, then what waits is stored when it is back; one that fails
    # as often as is tried leaves that one out, and the next is stored.
    monkeypatch.setattr(prompts, "RETRY_WAIT_S", 0.0)
    for failures, stored in ((prompts.PUBLISH_TRIES - 1, 2), (prompts.PUBLISH_TRIES, 1)):
        waiting, bus = Prompts(), FakeBus(failures=failures)
        for number in range(2):
            waiting.put(prompt(number))
        asyncio.run(publish(waiting, bus))
        assert (waiting.stored, waiting.left_out) == (stored, 2 - stored)
