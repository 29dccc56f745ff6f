"""What a request tells of its client is kept as it is told, and never stands in its way."""

import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.client_facts import BETAS_MAX, COUNT_MAX, TAGS_MAX, TEXT_MAX, USER_MAX, ClientFacts
from schemas.events import UsageRecord
from services.ledger.request_rows import recorded_row
from services.ledger.rows import REQUEST_COLUMNS
from services.proxy import body as body_module
from services.proxy.body import read_body
from services.proxy.client_facts import client_of, of_headers, with_end_user
from services.proxy.client_identity import PART_BYTES_MAX
from tests.support.recorded import RequestKind, claude_code_body, recorded_request

DEVICE = hashlib.sha256(b"0" * 64).hexdigest()[:32]
ACCOUNT_ID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
AGENT = b"claude-cli/2.1.330 (external, cli)"
LINE = "x-anthropic-billing-header: cc_version=2.1.330.440; cc_entrypoint=cli;"


def told(body: dict[str, Any] | bytes, *, is_count: bool = False, **headers: bytes) -> ClientFacts:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {b"user-agent": AGENT} | {
        name.replace("_", "-").encode(): value for name, value in headers.items()
    }
    return client_of(given, raw, read_body(raw), is_count=is_count)


def headers_of(kind: RequestKind) -> dict[bytes, bytes]:
    return {name.lower().encode(): value.encode() for name, value in recorded_request(kind).headers}


def test_a_turn_of_the_recorded_client_tells_all_that_it_says() -> None:
    # Given headers as Claude Code sent them and a body of its shape, when they are read, then each
    # fact is there; ids stand as hashes, and an account that is not named has none.
    body = claude_code_body()
    headers = headers_of("oauth_with_virtual_key")
    facts = client_of(headers, body, read_body(body), is_count=False)
    assert facts == ClientFacts(
        name="claude-cli",
        version="2.1.330",
        entrypoint="sdk-cli",
        purpose="main",
        device_hash=DEVICE,
        effort="high",
        thinking="adaptive",
        betas=",".join(sorted(headers[b"anthropic-beta"].decode().split(","))),
        tool_count=12,
        message_count=2,
        max_tokens=32_000,
    )


TITLE = {"type": "json_schema", "schema": {"type": "object", "properties": {"title": {}}}}
TOOL = {"name": "Bash", "input_schema": {}}
TURN = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": [TOOL]}
PROBE = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "quota"}]}


TWENTY = ",".join(f"t{number:02d}" for number in range(20))


@pytest.mark.parametrize(
    ("body", "headers", "purpose"),
    [
        (TURN, {}, "main"),
        (TURN, {"x_claude_code_agent_id": b"a1"}, "agent"),
        (
            TURN | {"system": [{"type": "text", "text": f"{LINE} cc_is_subagent=true;"}]},
            {},
            "agent",
        ),
        (PROBE, {}, "quota_probe"),
        (PROBE | {"max_tokens": 2}, {}, None),
        (PROBE | {"messages": [{"role": "user", "content": "quotas"}]}, {}, None),
        (TURN | {"tools": [], "output_config": {"format": TITLE}}, {}, "title"),
        (TURN | {"tools": []}, {}, None),
        (TURN, {"user_agent": b"python-httpx/0.28"}, None),
        (PROBE, {"user_agent": b"python-httpx/0.28"}, None),
    ],
)
def test_a_request_is_recorded_as_what_it_is(
    body: dict[str, Any], headers: dict[str, bytes], purpose: str | None
) -> None:
    # Given requests of each kind that Claude Code makes, wherever the model stands in them, and
    # some that look nearly so, when they are read, then each has its purpose, or none is claimed.
    turned = dict(reversed(body.items()))
    assert told(body, **headers).purpose == told(turned, **headers).purpose == purpose
    assert told(body, is_count=True, **headers).purpose == "count_tokens"


@pytest.mark.parametrize(
    "user_id",
    [
        json.dumps({"device_id": "0" * 64, "account_uuid": ACCOUNT_ID, "session_id": "s-1"}),
        f"user_{'0' * 64}_account_{ACCOUNT_ID}_session_s-1",
    ],
)
def test_both_forms_of_the_user_id_name_the_same_session_device_and_account(user_id: str) -> None:
    # Given the two forms in which clients name themselves, when they are read, then both tell the
    # same, and neither id is in what is kept.
    facts = told(TURN | {"metadata": {"user_id": user_id}})
    assert facts.device_hash == DEVICE
    assert facts.account_hash == hashlib.sha256(ACCOUNT_ID.encode()).hexdigest()[:32]
    assert ACCOUNT_ID not in str(facts)


def test_the_first_block_alone_tells_the_entrypoint() -> None:
    # Given the line in a later block, where anybody's text may stand, when it is read, then the
    # user agent's word counts.
    system = [{"type": "text", "text": "hi"}, {"type": "text", "text": LINE.replace("cli;", "x;")}]
    assert told(TURN | {"system": system}).entrypoint == "cli"
    assert told(TURN | {"system": system[1:]}).entrypoint == "x"


def test_what_is_too_long_is_cut_or_left_out() -> None:
    # Given texts and numbers above their limits, when they are read, then what is kept is within
    # them and betas are whole names.
    betas = b",".join(b"beta-%04d" % n for n in range(300))
    facts = told(
        TURN
        | {
            "max_tokens": COUNT_MAX + 1,
            "output_config": {"effort": "e" * 1000},
            "thinking": {"type": "t" * PART_BYTES_MAX},
            "metadata": {"user_id": "user_" + "1" * 5000},
        },
        anthropic_beta=betas,
        x_claude_code_agent_id=b"a" * 5000,
    )
    assert facts.max_tokens is None
    assert facts.effort == "e" * TEXT_MAX
    assert facts.thinking is facts.device_hash is None
    assert facts.agent_id == "a" * TEXT_MAX
    assert facts.betas is not None
    assert len(facts.betas) <= BETAS_MAX
    assert set(facts.betas.split(",")) <= set(betas.decode().split(","))


def test_a_body_that_is_very_large_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a body above the limit for counting, when it is read, then it is served as any other
    # and what would have to be counted is not told.
    monkeypatch.setattr(body_module, "COUNTED_BYTES_MAX", 10)
    for body in (TURN, dict(reversed(TURN.items()))):
        facts = told(body)
        assert (facts.tool_count, facts.message_count, facts.purpose) == (None, None, None)


texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["quota", LINE, "user__account_", '{"device_id":[1]}', '{"session_id":"\\ud8']),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "format", "schema", "properties", "effort", "user_id"])
            | st.text(max_size=5),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)
PARTS = ("messages", "tools", "system", "metadata", "max_tokens", "thinking", "output_config")


@given(
    st.lists(st.tuples(st.sampled_from(PARTS), anything), max_size=9),
    st.sampled_from(["first", "last"]),
    st.dictionaries(
        st.sampled_from(["user_agent", "anthropic_beta", "x_claude_code_agent_id"]),
        st.binary(max_size=40),
    ),
)
def test_nothing_in_a_request_keeps_it_from_being_served(
    parts: list[tuple[str, Any]], place: str, headers: dict[str, bytes]
) -> None:
    # Given parts of any type, nested, repeated, with the model before or after them, when the
    # request is read, then it is read, and what is told is a valid part of an event.
    pairs = [f"{json.dumps(name)}:{json.dumps(value)}" for name, value in parts]
    model = '"model":"m"'
    raw = ("{" + ",".join([model, *pairs] if place == "first" else [*pairs, model]) + "}").encode()
    try:
        msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return  # NaN and lone surrogates are no JSON for anybody.
    facts = told(raw, **headers)
    assert msgspec.json.decode(msgspec.json.encode(facts), type=ClientFacts) == facts
    assert of_headers({name.encode(): value for name, value in headers.items()}).purpose is None


def test_parts_of_the_wrong_type_leave_the_others_readable() -> None:
    # Given tools that are no list, wherever the model stands, when the request is read, then its
    # other parts are told all the same; a key that is no text costs no more than the parts.
    odd = {"model": "m", "tools": 7, "messages": [{}], "max_tokens": 5}
    for body in (odd, dict(reversed(odd.items()))):
        facts = told(body)
        assert (facts.tool_count, facts.message_count, facts.max_tokens) == (None, 1, 5)
    raw = b'{"model":"m","tools":7,"max_tokens":5,"\xff":1}'
    assert told(raw).max_tokens is None


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        (b"web, nightly,web", "nightly,web"),
        ("größe".encode(), "größe"),
        (b" , ,", None),
        (b"", None),
        (b"a\x01b,c", "c"),
        (b"x" * (TEXT_MAX + 1) + b",y", "y"),
        (b",".join(b"t%02d" % n for n in range(TAGS_MAX + 5)), TWENTY),
        (b"a," * 40_000, None),
    ],
)
def test_tags_of_a_request_are_told_in_order_and_within_limits(
    value: bytes, tags: str | None
) -> None:
    # Given LiteLLM's header for tags, when it is read, then each good tag is told once.
    headers = {b"x-litellm-tags": value}
    assert of_headers(headers).tags == tags
    read = read_body(b'{"model":"m"}')
    assert client_of(headers, b"{}", read, is_count=False).tags == tags


@pytest.mark.parametrize(
    ("headers", "user"),
    [
        ({}, (None, None)),
        ({b"x-litellm-end-user-id": b"bob"}, ("bob", None)),
        ({b"x-litellm-end-user-id": b"bob", b"x-claude-gateway-user-id": b"u-1"}, ("u-1", None)),
        ({b"x-claude-gateway-user-id": b" "}, (None, None)),
        ({b"x-claude-gateway-user-id": b"u" * (USER_MAX + 1)}, (None, None)),
        ({b"x-claude-gateway-user-email": "zoë@x.example".encode()}, (None, "zoë@x.example")),
        ({b"x-claude-gateway-user-email": b"\xff\xfe"}, (None, "\ufffd\ufffd")),
    ],
)
def test_an_end_user_is_named_whole_or_not_at_all(
    headers: dict[bytes, bytes], user: tuple[str | None, str | None]
) -> None:
    # Given the headers of a gateway in front, when they are read, then the user is the one named;
    # a name that is too long is nobody's, since cut it could be another's.
    facts = with_end_user(ClientFacts(name="x"), headers)
    assert (facts.end_user_id, facts.end_user_email) == user
    assert facts.name == "x"
    assert of_headers(headers).end_user_id is None


def test_each_fact_has_its_column() -> None:
    # Given a request with every fact, when it becomes a row, then each stands under its own name.
    facts = ClientFacts(
        **{
            name: number if name.endswith(("_count", "_tokens")) else f"<{name}>"
            for number, name in enumerate(ClientFacts.__struct_fields__)
            if name != "purpose"
        },
        purpose="title",
    )
    record = UsageRecord(request_id="tg_1", started_at_us=0, ended_at_us=0, client=facts)
    row = recorded_row(record, None, None, ("p", 1, 1))
    cells = dict(zip((name for name, _ in REQUEST_COLUMNS), row, strict=True))
    for name, value in msgspec.structs.asdict(facts).items():
        assert cells[f"client_{name}" if name in {"name", "version"} else name] == value


@pytest.mark.parametrize(
    "part",
    [
        b'"metadata":{"user_id":"\xff"}',
        b'"metadata":{"user_id":"' + b"[" * 3000 + b'"}',
        b'"metadata":{"user_id":"{\\"device_id\\":' + b"[" * 3000 + b'"}',
        b'"output_config":{"effort":"\xff"}',
        b'"thinking":{"type":"\xff"}',
        b'"max_tokens":1,"messages":[{"content":"\xff"}]',
        b'"max_tokens":-1,"tools":[{"name":"\xff"}],"system":[{"type":"text","text":"\xff"}]',
    ],
)
@pytest.mark.parametrize("place", ["first", "last"])
def test_bytes_that_are_no_text_and_texts_that_nest_too_deeply_are_not_told(
    part: bytes, place: str
) -> None:
    # Given parts that the first reading passes over and that cannot be read, when the facts are
    # asked for, then there are none of that part, and no error.
    model = b'"model":"m"'
    raw = b"{" + b",".join((model, part) if place == "first" else (part, model)) + b"}"
    facts = told(raw)
    assert (facts.device_hash, facts.effort, facts.thinking) == (None, None, None)
    assert (facts.entrypoint, facts.max_tokens in {None, 1}) == ("cli", True)
    assert facts.purpose in {None, "main"}
