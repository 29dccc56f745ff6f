"""What the reader says of itself while its file is built anew, without a network."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from schemas.rpc import QueryReply
from services.ledger.reader_status import ReaderStatus
from services.runtime.bus import StreamState


class _Bus:
    """Stands where the bus stands: a stream of four messages, and nobody who asks."""

    async def wait_connected(self) -> None:
        return None

    async def stream_state(self, _: str) -> StreamState:
        return StreamState(1, 4, 4, "now")

    async def serve(self, *_: Any) -> Callable[[], Awaitable[None]]:
        return self.wait_connected


def test_new_file_is_refused_with_its_progress_until_it_is_whole() -> None:
    # Given a reader with a new file, when it has read a part of the stream, then queries are
    # refused and told how far it is; once it has read what there was, they are answered.
    async def rebuild() -> None:
        worker = SimpleNamespace(sequence=0)
        status = ReaderStatus(cast("Any", _Bus()), cast("Any", worker), is_new=True)
        assert "waits for the stream" in str(refusal_of(status))
        serving = asyncio.create_task(status.serve())
        await asyncio.sleep(0)
        worker.sequence = 3
        async with asyncio.timeout(30):
            while "75 % (3 of 4 messages)" not in str(refusal_of(status)):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            state = status.state()
            assert (state.rebuilding, state.sequence, state.last_sequence) == (True, 3, 4)
            worker.sequence = 4
            while status.refusal() is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert not status.state().rebuilding
        serving.cancel()

    asyncio.run(rebuild())


def test_file_that_was_kept_answers_at_once() -> None:
    # Given a reader whose file was kept, when it is asked, then it refuses nothing.
    status = ReaderStatus(
        cast("Any", _Bus()), cast("Any", SimpleNamespace(sequence=9)), is_new=False
    )
    assert status.refusal() is None


def refusal_of(status: ReaderStatus) -> str | None:
    refusal = status.refusal()
    assert refusal is not None
    reply = msgspec.json.decode(refusal, type=QueryReply)
    assert reply.error_kind == "unavailable"
    return reply.error
