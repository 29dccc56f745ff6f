"""Which meter reads what, and packed answers, bombs among them."""

import gzip
import itertools
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.meter import JsonMeter, NoMeter, StreamMeter
from services.proxy.metering import Unpacker, meter_for

STREAM = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","usage":'
    b'{"input_tokens":7,"output_tokens":1}}}\n\n'
    + b"".join(
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        b'{"type":"text_delta","text":"%d"}}\n\n' % number
        for number in random.Random(1).choices(range(10**9), k=300)
    )
    + b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":'
    b'{"output_tokens":42}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
)


@pytest.mark.parametrize("packed", [gzip.compress(STREAM), zlib.compress(STREAM)])
@given(cuts=st.lists(st.integers(0, 3000), max_size=20))
def test_packed_stream_is_read_in_any_chunking(packed: bytes, cuts: list[int]) -> None:
    meter, feed = meter_for(b"text/event-stream; charset=utf-8", b"gzip", 1000)
    edges = [0, *sorted(min(cut, len(packed)) for cut in cuts), len(packed)]
    for left, right in itertools.pairwise(edges):
        feed(packed[left:right])

    usage, basis = meter.usage()
    assert basis is None
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (7, 42)
    assert meter.complete
    assert not meter.boundary


def test_text_that_fills_a_piece_exactly_is_read_to_its_end() -> None:
    for extra in range(-3, 4):
        content = b":" * (Unpacker.PIECE_BYTES_MAX - len(STREAM) + extra) + b"\n" + STREAM
        meter = StreamMeter()
        unpacker = Unpacker(meter)
        packed = gzip.compress(content, 1)
        for left in range(0, len(packed), 997):
            unpacker.feed(packed[left : left + 997])
        assert meter.complete, extra


def test_bomb_is_left_alone_after_a_bounded_piece() -> None:
    """Given 1 GiB of zeros in 1 MB, then the meter stops long before, and says so."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1024 * 1024)) for _ in range(64)) + packer.flush()
    meter = StreamMeter()
    fed = 0

    class Counting(StreamMeter):
        def feed(self, chunk: bytes) -> None:
            nonlocal fed
            fed += len(chunk)
            meter.feed(chunk)

    unpacker = Unpacker(Counting())
    for _ in range(16):
        for left in range(0, len(bomb), 16_384):
            unpacker.feed(bomb[left : left + 16_384])

    assert fed < 20 * 1024 * 1024


@given(st.binary(max_size=500))
def test_bytes_that_are_not_packed_never_raise(garbage: bytes) -> None:
    for prefix in (b"", b"\x1f\x8b\x08\x00", gzip.compress(STREAM)[:200]):
        meter, feed = meter_for(b"application/json", b"deflate", 1000)
        feed(prefix)
        feed(garbage)
        meter.finish()
        assert meter.usage()[0] is None


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        (b"text/event-stream", StreamMeter),
        (b"Text/Event-Stream;charset=utf-8", StreamMeter),
        (b"application/json", JsonMeter),
        (b"application/problem+json", JsonMeter),
        (b"text/html", NoMeter),
        (b"", NoMeter),
    ],
)
def test_content_type_chooses_the_meter(content_type: bytes, kind: type) -> None:
    assert type(meter_for(content_type, b"", 1000)[0]) is kind
