"""A file on its way: bounded in size and time, and its client's leaving is heard."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from schemas.errors import BodyTooLarge
from services.proxy.admission import BodyTooSlow
from services.proxy.upload import ClientUpload

SILENCE_S_MAX = 0.05


def upload_of(messages: Iterable[dict[str, Any] | float], **fields: Any) -> ClientUpload:
    """Return an upload whose client sends messages, or waits so many seconds."""
    waiting = iter(messages)

    async def receive() -> dict[str, Any]:
        for message in waiting:
            if isinstance(message, dict):
                return message
            await asyncio.sleep(message)
        await asyncio.sleep(10)
        raise AssertionError("asked after the end")

    values: dict[str, Any] = {"bytes_max": 10, "silence_s_max": SILENCE_S_MAX, **fields}
    return ClientUpload(values.pop("headers", []), receive, **values)


def body(piece: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": piece, "more_body": more}


async def all_of(upload: ClientUpload) -> list[bytes]:
    return [piece async for piece in upload.pieces()]


def test_pieces_come_as_they_were_and_then_the_client_is_listened_to() -> None:
    # Given a body and a client that then leaves, then both are told, in this order.
    left = {"type": "http.disconnect"}
    upload = upload_of([body(b"abc", more=True), body(b"de", more=False), left])

    async def work() -> tuple[list[bytes], dict[str, Any]]:
        leaving = asyncio.create_task(upload.receive())
        return await all_of(upload), await leaving

    assert asyncio.run(work()) == ([b"abc", b"de"], left)


def test_a_length_is_believed_for_the_limit_and_the_limit_holds_without() -> None:
    # Given a length beyond the limit, or pieces beyond it, then the file is too large.
    with pytest.raises(BodyTooLarge, match="upload_bytes_max"):
        upload_of([], headers=[(b"content-length", b"11")])
    assert upload_of([], headers=[(b"content-length", b"10")]).length == 10
    upload = upload_of([body(b"x" * 6, more=True), body(b"x" * 6, more=False)])
    assert upload.length is None
    with pytest.raises(BodyTooLarge):
        asyncio.run(all_of(upload))


def test_a_client_that_stands_still_or_drips_is_given_up() -> None:
    # Given a client that is silent, or sends a byte now and then for ever, then it is too slow.
    with pytest.raises(BodyTooSlow):
        asyncio.run(all_of(upload_of([body(b"x", more=True), 5.0])))

    def drip() -> Iterable[dict[str, Any] | float]:
        for _ in range(1000):
            yield 0.02
            yield body(b"x", more=True)

    with pytest.raises(BodyTooSlow):
        asyncio.run(all_of(upload_of(drip(), bytes_max=10_000)))


def test_a_client_that_leaves_is_heard_and_the_upload_waits_to_be_cancelled() -> None:
    # Given a client that goes away in the middle, then whoever listens is told, and no end of the
    # body is pretended.
    upload = upload_of([body(b"x", more=True), {"type": "http.disconnect"}])

    async def work() -> bool:
        reading = asyncio.create_task(all_of(upload))
        assert (await upload.receive())["type"] == "http.disconnect"
        await asyncio.sleep(0)
        is_waiting = not reading.done()
        reading.cancel()
        await asyncio.wait({reading})
        return is_waiting and reading.cancelled()

    assert asyncio.run(work())
