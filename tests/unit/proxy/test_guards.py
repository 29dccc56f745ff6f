"""Which guardrails hold for a key, and the rules about what a request may ask for."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.config import GatewayConfig
from schemas.errors import BadRequest, Forbidden
from schemas.events import GuardrailHit
from schemas.guardrails import Guardrail, RequestRules
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from services.proxy.draft import Draft
from services.proxy.guarding import Guarding
from services.proxy.guards import Guards, refuse_unchecked
from services.proxy.json_members import elements_of, members_of
from services.proxy.setup import make_setup

BODY: dict[str, Any] = {
    "model": "m",
    "max_tokens": 100,
    "system": [{"type": "text", "text": "You are careful."}],
    "tools": [
        {"name": "Bash", "input_schema": {}},
        {"name": "search", "type": "web_search_20250305"},
    ],
    "messages": [],
}
HEADERS = [(b"anthropic-beta", b"oauth-2025-04-20, thinking-2026")]


def key(**fields: Any) -> KeyRecord:
    return KeyRecord(key_id="k", key_hash="h", key_name="sk-...abcd", **fields)


def draft(*guardrails: Guardrail) -> Draft:
    setup = make_setup(GatewayConfig(path=""), "sk-x")
    return Draft("tg_1", 1, "messages", setup, key(), guardrails=guardrails)


def check(body: bytes | None = None, message: str | None = None, **rules: Any) -> None:
    guardrail = Guardrail(
        name="g", kind="request_rules", rules=RequestRules(**rules), message=message
    )
    told: list[GuardrailHit] = []
    guarding = Guarding(told.append)
    text = json.dumps(BODY).encode() if body is None else body
    try:
        assert asyncio.run(guarding.check(draft(guardrail), HEADERS, text)) is text
    finally:
        assert [hit.action for hit in told] in ([], ["block"])


def test_guardrails_hold_for_all_or_for_those_who_name_them() -> None:
    # Given guardrails on for all and not, then a key has those on for all, and those that it, its
    # team or its user names, each once, in the order of the file.
    one, two, three, four = (
        Guardrail(name=name, kind="request_rules", default_on=name == "b") for name in "abcd"
    )
    guards = Guards([one, two, three, four])
    team = TeamRecord(team_id="t", guardrails=("c", "d"))
    user = UserRecord(user_id="u", guardrails=("a",))
    assert guards.chosen(key(), []) == (two,)
    assert guards.chosen(key(guardrails=("c",)), []) == (two, three)
    assert guards.chosen(key(guardrails=("c", "c")), [team, user]) == (one, two, three, four)


def test_a_guardrail_that_is_not_there_lets_nothing_pass() -> None:
    # Given a team that names a guardrail that was taken out, then its keys' requests are refused.
    team = TeamRecord(team_id="t", guardrails=("gone",))
    with pytest.raises(Forbidden, match="guardrail gone"):
        Guards([]).chosen(key(), [team])


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"max_tokens_max": 99}, "max_tokens is 100, at most 99"),
        ({"tools_denied": ("Bash",)}, "the tool Bash"),
        ({"tools_denied": ("web_*",)}, "the tool web_search_20250305"),
        ({"betas_allowed": ("oauth-*",)}, "the beta thinking-2026"),
        ({"betas_allowed": ()}, "the beta oauth-2025-04-20"),
        ({"request_bytes_max": 1024}, None),
        ({"max_tokens_max": 100}, None),
        ({"tools_denied": ("bash", "Ba", "WebFetch")}, None),
        ({"betas_allowed": ("oauth-2025-04-20", "thinking*")}, None),
        ({"system_required": True}, None),
    ],
)
def test_each_rule_refuses_what_breaks_it_and_nothing_else(
    rules: dict[str, Any], said: str | None
) -> None:
    # Given a request and a rule, when it is checked, then the refusal says what is too much.
    if said is None:
        check(**rules)
        return
    with pytest.raises(Forbidden, match=f"^Blocked by the guardrail g: {said}.* · ask us$"):
        check(message="ask us", **rules)


@pytest.mark.parametrize(
    ("body", "rules"),
    [
        (b'{"max_tokens":1e9}', {"max_tokens_max": 99}),
        (b'{"max_tokens":"1000"}', {"max_tokens_max": 99}),
        (b'{"tools":{"name":"Bash"}}', {"tools_denied": ("Bash",)}),
        (b"{}", {"system_required": True}),
        (b'{"system":" "}', {"system_required": True}),
        (b'{"system":[{"type":"text","text":""}]}', {"system_required": True}),
        (b'{"system":"' + 1024 * b"x" + b'"}', {"request_bytes_max": 1024}),
    ],
)
def test_a_rule_is_not_passed_by_another_form(body: bytes, rules: dict[str, Any]) -> None:
    # Given a value in another form than clients send, then it does not pass for lack of a match.
    with pytest.raises(Forbidden):
        check(body, **rules)


@pytest.mark.parametrize(
    "body",
    [
        b'{"max_tokens":1,"max_tokens":1000}',
        b'{"max_tokens":1000,"max_tokens":1}',
        b'{"max_tokens":1,"a":2,"max_tokens":1}',
        b'{"max_tokens":1,"max\\u005ftokens":1000}',
        b"[1]",
        b"{",
    ],
)
def test_a_body_that_could_mean_two_things_is_refused(body: bytes) -> None:
    # Given a key twice, or spelled with escapes, then no value of it is believed.
    with pytest.raises(BadRequest, match="each key once"):
        check(body, max_tokens_max=5000)


def test_what_a_guardrail_finds_is_told_before_it_counts() -> None:
    # Given guardrails that only log and one that blocks, when a request breaks the rules of all,
    # then each has told of it, in order, with the place and not the text, when it is refused.
    rules = RequestRules(tools_denied=("Bash",))
    log, block = (
        Guardrail(name=action, kind="request_rules", rules=rules, action=action, modes=(mode,))
        for action, mode in (("log", "logging_only"), ("block", "pre_call"))
    )
    told: list[GuardrailHit] = []
    guarding = Guarding(told.append)
    checked = guarding.check(draft(log, block, log), [], json.dumps(BODY).encode())
    with pytest.raises(Forbidden):
        asyncio.run(checked)
    assert [(hit.guardrail, hit.mode, hit.action) for hit in told] == [
        ("log", "logging_only", "log"),
        ("block", "pre_call", "block"),
    ]
    assert [(each.rule, each.place) for each in told[0].findings] == [("tools_denied", "tools")]
    assert (told[0].request_id, told[0].key_id) == ("tg_1", "k")


def test_content_does_not_pass_a_guardrail_by_another_path() -> None:
    # Given a key with a guardrail, then the paths that no guardrail looks at are closed to it.
    refuse_unchecked(())
    with pytest.raises(Forbidden, match="may not use this path"):
        refuse_unchecked((Guardrail(name="g", kind="request_rules"),))
    refuse_unchecked((Guardrail(name="g", kind="request_rules", action="log"),))
    refuse_unchecked((Guardrail(name="g", kind="secrets"),), is_file=True)
    with pytest.raises(Forbidden, match="may not use this path"):
        refuse_unchecked((Guardrail(name="g", kind="request_rules"),), is_file=True)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@settings(max_examples=40)
@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=5), st.sampled_from([None, 0, 2]))
def test_members_are_found_where_they_stand(fields: dict[str, Any], indent: int | None) -> None:
    # Given any object, however it is laid out, then each value is found at its place; so are the
    # elements of an array of the same values.
    fields = {name: value for name, value in fields.items() if json.dumps(name) == f'"{name}"'}
    text = json.dumps(fields, indent=indent).encode()
    found = {name: json.loads(text[start:end]) for name, (start, end) in members_of(text).items()}
    assert found == fields
    array = json.dumps(list(fields.values()), indent=indent).encode()
    assert [json.loads(array[a:b]) for a, b in elements_of(array)] == list(fields.values())


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    # Given any bytes, then only the errors come that callers catch.
    try:
        members_of(body)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return
