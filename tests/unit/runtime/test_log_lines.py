"""What children write is shown to people and to machines, with secrets masked."""

import io
import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.log_lines import parse_line, readable, to_json
from services.runtime.log_sink import LogSink

NOW = datetime(2026, 11, 24, 1, 2, 3, 456_000, tzinfo=UTC)


def test_a_json_line_keeps_its_time_its_level_and_its_fields() -> None:
    # Given a line as services log it, then JSON has it all, and a person sees what matters.
    raw = b'{"time":"2026-11-24T05:06:07Z","level":"warning","part":"x","logger":"a.b",'
    raw += b'"message":"late","wait_s":3}'
    line = parse_line("proxy-0", raw, NOW)
    assert json.loads(to_json(line)) == {
        "time": "2026-11-24T05:06:07Z",
        "level": "warning",
        "part": "proxy-0",
        "logger": "a.b",
        "message": "late",
        "wait_s": 3,
    }
    assert readable(line).split(" ", 1)[1] == "proxy-0       warning: late wait_s=3"


def test_a_trace_is_shown_below_its_line() -> None:
    raw = b'{"level":"error","message":"fault","exception":"Traceback:\\n  here"}'
    text = readable(parse_line("admin", raw, NOW))
    assert text.splitlines()[1:] == ["    Traceback:", "      here"]


def test_lines_of_nats_have_their_level() -> None:
    # Given lines of nats-server, then its banner is detail and its errors are errors.
    start = b"[12] 2026/11/24 04:00:00.000001 "
    assert parse_line("n", start + b"[INF] Server is ready", NOW).level == "debug"
    assert parse_line("n", start + b"[INF]", NOW).level == "debug"
    assert parse_line("n", start + b"[ERR] no space left", NOW).level == "error"
    assert parse_line("n", start + b"[FTL] cannot bind", NOW).level == "critical"
    plaintext = start + b"[WRN] Plaintext passwords detected, use nkeys or bcrypt"
    assert parse_line("n", plaintext, NOW).level == "debug"
    assert parse_line("n", start + b"[WRN] slow consumer", NOW).message == "slow consumer"


def test_secrets_are_masked_in_every_form() -> None:
    # Given lines that hold a key, a token and a password, then none of them is shown.
    for raw in (
        b'{"message":"key sk-abcdefgh and nats://proxy:password@127.0.0.1:1"}',
        b'{"message":"Bearer abcdefgh","a":{"b":["sk-abcdefgh"]},"c":"x nats://p:password@h"}',
        b"plain sk-abcdefgh nats://proxy:password@127.0.0.1:1",
        b"[1] 2026/11/24 04:00:00.000001 [ERR] sk-abcdefgh nats://proxy:password@h",
    ):
        line = parse_line("x", raw, NOW)
        for text in (to_json(line), readable(line)):
            assert "abcdefgh" not in text
            assert "password" not in text


@given(st.binary(max_size=300))
def test_no_bytes_break_the_log(raw: bytes) -> None:
    # Given any bytes, then a line of JSON comes out.
    line = parse_line("x", raw, NOW)
    assert json.loads(to_json(line))["part"] == "x"
    assert "\n" not in to_json(line)
    assert readable(line)


def test_lines_below_the_level_are_left_out_and_a_lost_reader_is_no_fault() -> None:
    # Given a sink at info, when debug is written, then nothing; when its stream is closed, then
    # writing goes on without an error.
    stream = io.StringIO()
    sink = LogSink(stream, "info")
    sink.say("debug", "detail")
    sink.say("info", "news", pid=1)
    written = [json.loads(row) for row in stream.getvalue().splitlines()]
    assert [(row["message"], row["pid"], row["part"]) for row in written] == [
        ("news", 1, "supervisor")
    ]
    stream.close()
    sink.say("info", "nobody reads this")
