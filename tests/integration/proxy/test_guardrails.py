"""Guardrails of a running gateway: chosen by keys and teams, changed by a reload."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.support.gateway import CONFIG, MASTER_KEY, Gateway, wait_until
from tests.support.guardrail_service import GuardrailService
from tests.support.mock import MockAnthropic, Scenario

GUARDRAILS = [
    {
        "guardrail_name": "short answers",
        "litellm_params": {
            "guardrail": "request_rules",
            "mode": "pre_call",
            "max_tokens_max": 1000,
            "message": "ask the platform team",
        },
    },
    {
        "guardrail_name": "no web",
        "litellm_params": {
            "guardrail": "request_rules",
            "mode": "during_call",
            "tools_denied": ["web_*"],
        },
    },
]
GUARDRAILS.append(
    {
        "guardrail_name": "who sends tools",
        "litellm_params": {
            "guardrail": "request_rules",
            "mode": "logging_only",
            "tools_denied": ["*"],
        },
    }
)
GUARDRAILS += [
    {
        "guardrail_name": name,
        "litellm_params": {
            "guardrail": "block_list",
            "mode": "pre_call",
            "action": action,
            "lists": [{"name": "codename", "category": "projects", "words": [word]}],
        },
    }
    for name, action, word in (
        ("names out", "mask", "Falcon"),
        ("names stay", "block", "Peregrine"),
    )
]
GUARDRAILS.append(
    {
        "guardrail_name": "what models say",
        "litellm_params": {
            "guardrail": "block_list",
            "mode": "post_call",
            "lists": [{"name": "kites", "category": "birds", "words": ["red kite"]}],
        },
    }
)
SHORT = "Blocked by the guardrail short answers: max_tokens is 1001, at most 1000 are allowed "


@pytest.fixture(scope="module")
def service() -> Iterator[GuardrailService]:
    with GuardrailService.started() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, mock: MockAnthropic, service: GuardrailService
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    config = yaml.safe_load(CONFIG.format(api_base=mock.url))
    asked = {"guardrail": "webhook", "mode": "pre_call", "url": service.url}
    guardrails = [*GUARDRAILS, {"guardrail_name": "ours", "litellm_params": asked}]
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "guardrails": guardrails}))
    with Gateway.started(folder, mock) as running:
        yield running


def ask(gateway: Gateway, key: str, path: str = "/v1/messages", **body: Any) -> httpx.Response:
    """Ask as soon as the proxy knows the key."""
    content = json.dumps(
        {"model": "anthropic-claude", "max_tokens": 1001, "messages": [], "stream": True, **body}
    )
    headers = {
        "x-litellm-api-key": f"Bearer {key}",
        "authorization": "Bearer sk-ant-oat01-of-a-subscriber",
        "content-type": "application/json",
    }

    def answer() -> httpx.Response | None:
        found = gateway.client.post(path, content=content, headers=headers)
        return None if found.status_code == 401 else found

    return wait_until(answer, 30, "the proxy knows the key")


def refused(answer: httpx.Response) -> str:
    """Return the message of a refusal that Claude Code shows at once."""
    assert answer.status_code == 403, answer.text
    assert answer.json()["error"]["type"] == "permission_error"
    message: str = answer.json()["error"]["message"]
    return message


def upload(gateway: Gateway, key: str, name: str, content: bytes) -> httpx.Response:
    headers = {
        "x-litellm-api-key": f"Bearer {key}",
        "authorization": "Bearer sk-ant-oat01-of-a-subscriber",
    }
    return gateway.client.post("/v1/files", files={"file": (name, content)}, headers=headers)


def test_files_are_looked_at_as_messages_are(gateway: Gateway, mock: MockAnthropic) -> None:
    # Given a key whose texts are masked and one whose words are blocked, when they upload files,
    # then what is in them does not leave the house, what cannot be looked at is refused with the
    # reason, and every other byte arrives.
    masked = gateway.new_key(guardrails=["names out"])
    blocked = gateway.new_key(guardrails=["names stay"])
    for key in (masked, blocked):
        assert ask(gateway, key).status_code == 200
    mock.reset()
    assert upload(gateway, masked, "falcon.md", "é Falcon \n".encode() * 2).status_code == 200
    assert upload(gateway, masked, "a.png", b"\x89PNG\r\n\x1a\n\x00\xff").status_code == 200
    message = refused(upload(gateway, masked, "a.zip", b"PK\x03\x04\xff"))
    assert "cannot look at this one: it is no text in UTF-8" in message
    message = refused(upload(gateway, blocked, "a.txt", b"the Peregrine flies"))
    assert message.endswith(
        "it found codename in file, so nothing was sent. Take it out of the file"
    )
    text, image = (record.body for record in mock.requests())
    assert "é [MASKED:codename] \n".encode() * 2 in text
    assert b'filename="[MASKED:codename].md"' in text
    assert b"alcon" not in text
    assert b"\r\n\r\n\x89PNG\r\n\x1a\n\x00\xff\r\n--" in image


def test_guardrails_hold_for_the_keys_and_teams_that_name_them(gateway: Gateway) -> None:
    # Given a key and a team that name a guardrail each, and a key that names none, when they ask
    # for what the guardrails do not allow, then those are refused, in words, and this one is not.
    gateway.admin("POST", "/team/new", json={"team_id": "blue", "guardrails": ["no web"]})
    free = gateway.new_key()
    short = gateway.new_key(guardrails=["short answers"])
    blue = gateway.new_key(team_id="blue")
    tools = [{"name": "web_search", "type": "web_search_20250305"}]

    assert ask(gateway, free, tools=tools).status_code == 200
    message = refused(ask(gateway, short))
    assert message.startswith(SHORT)
    assert message.endswith(" · ask the platform team")
    assert ask(gateway, short, max_tokens=1000).status_code == 200
    assert ask(gateway, short, "/v1/messages/count_tokens").status_code == 200
    assert "the tool web_search is not allowed" in refused(ask(gateway, blue, tools=tools))
    assert "may not use this path" in refused(ask(gateway, blue, "/v1/files"))
    params = {"model": "anthropic-claude", "max_tokens": 9, "messages": [], "tools": tools}
    batch = {"requests": [{"custom_id": "a", "params": params}]}
    message = refused(ask(gateway, blue, "/v1/messages/batches", **batch))
    assert "the tool web_search is not allowed" in message
    assert ask(gateway, short, "/v1/messages/batches", **batch).status_code == 200


def test_what_guardrails_find_is_in_the_ledger(gateway: Gateway) -> None:
    # Given a key with a guardrail that blocks and one that logs, when it breaks the rules of both,
    # then the ledger has what was found, beside the request that went on and the one that did not.
    key = gateway.new_key(key_alias="told", guardrails=["no web", "who sends tools"])
    assert ask(gateway, key, tools=[{"name": "Bash"}]).status_code == 200
    assert ask(gateway, key, tools=[{"name": "web_search"}]).status_code == 403
    query = (
        "SELECT guardrail, action, rule, place, hits, r.status FROM guardrail_events AS g "
        "JOIN requests AS r USING (request_id) WHERE g.key_alias = 'told' "
        "ORDER BY r.started_at, guardrail"
    )

    def booked() -> list[list[Any]] | None:
        rows = gateway.sql(query)
        return rows if len(rows) == 2 else None

    assert wait_until(booked, 30, "what was found is in the ledger") == [
        ["who sends tools", "log", "tools_denied", "tools", 1, "success"],
        ["no web", "block", "tools_denied", "tools", 1, "refused"],
    ]


def test_texts_are_masked_on_their_way_or_blocked(gateway: Gateway, mock: MockAnthropic) -> None:
    # Given a key whose requests are masked and one whose are blocked, when they say what may not
    # leave the house, then the deployment gets a mask in its place, byte for byte the same else,
    # or nothing at all; the refusal and the ledger name the rule and the place, never the text.
    key = gateway.new_key(key_alias="masked", guardrails=["names out"])
    other = gateway.new_key(key_alias="blocked", guardrails=["names stay"])
    words = "Project %s is \u00e9 secret \U0001f985"
    said = {"messages": [{"role": "user", "content": words % "FALCON"}], "max_tokens": 9}
    assert ask(gateway, key, **said).status_code == 200
    sent = mock.messages()[-1].body
    expected = {"model": "claude-sonnet-4-20250514", "max_tokens": 9, "messages": []}
    content = words % "[MASKED:codename]"
    expected |= {"messages": [{"role": "user", "content": content}], "stream": True}
    assert sent == json.dumps(expected).encode()
    count = len(mock.messages())
    said = {"messages": [{"role": "user", "content": [{"type": "text", "text": "peregrine"}]}]}
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        message = refused(ask(gateway, other, path, **said))
        assert "it found codename in messages[0].content[0]" in message
        assert "peregrine" not in message.lower()
    assert len(mock.messages()) == count
    query = (
        "SELECT key_alias, action, rule, category, place, endpoint FROM guardrail_events "
        "WHERE key_alias IN ('masked', 'blocked') ORDER BY found_at"
    )

    def booked() -> list[list[Any]] | None:
        rows = gateway.sql(query)
        return rows if len(rows) == 3 else None

    place = "messages[0].content[0]"
    assert wait_until(booked, 30, "what was found is in the ledger") == [
        ["masked", "mask", "codename", "projects", "messages[0]", "messages"],
        ["blocked", "block", "codename", "projects", place, "messages"],
        ["blocked", "block", "codename", "projects", place, "count_tokens"],
    ]


def test_a_service_of_ones_own_decides(gateway: Gateway, service: GuardrailService) -> None:
    # Given a key whose requests a service is asked about, then what it blocks is refused with its
    # reason, and where it is out of order nothing passes, for a while.
    key = gateway.new_key(guardrails=["ours"])
    said = {"messages": [{"role": "user", "content": "a kitten"}]}
    service.decide = lambda _: {"action": "BLOCKED", "blocked_reason": "no kittens"}
    assert refused(ask(gateway, key, **said)) == "Blocked by the guardrail ours: no kittens"
    service.decide = lambda _: 500
    answer = ask(gateway, key, **said)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    service.decide = lambda _: {"action": "NONE"}
    assert ask(gateway, key, **said).status_code == 200
    assert [each.json["texts"] for each in service.questions] == 3 * [["a kitten"]]


def test_what_models_say_passes_and_is_told(gateway: Gateway, mock: MockAnthropic) -> None:
    # Given a guardrail that looks at answers, when they say what it looks for, streamed in pieces,
    # packed, or whole, then the client has each answer as it came, and the ledger is told of it.
    key = gateway.new_key(key_alias="hears", guardrails=["what models say"])
    for scenario, stream in (
        (Scenario(text="see the red kite fly", events=9), True),
        (Scenario(text="a red kite", events=3, gzip=True), True),
        (Scenario(text="a red kite"), False),
        (Scenario(text="a red kit"), True),
    ):
        mock.queue(scenario)
        answer = ask(gateway, key, stream=stream)
        said = re.findall(r'"text": ?"([^"]*)"', answer.text)
        assert "".join(said) == scenario.text
    query = (
        "SELECT mode, action, rule, place, r.status, hits FROM guardrail_events AS g "
        "JOIN requests AS r USING (request_id) WHERE g.key_alias = 'hears'"
    )

    def booked() -> list[list[Any]] | None:
        rows = gateway.sql(query)
        return rows if len(rows) == 3 else None

    rows = wait_until(booked, 30, "what was said is in the ledger")
    assert rows == 3 * [["post_call", "log", "kites", "answer.content[0]", "success", 1]]


def test_a_name_that_is_not_configured_is_refused_by_the_management_api(gateway: Gateway) -> None:
    # Given names that are nearly those of guardrails, when they are set, then the error names the
    # right ones, and what is set right is shown.
    for path, body in (
        ("/key/generate", {}),
        ("/team/new", {"team_id": "red"}),
        ("/user/new", {"user_id": "ana"}),
    ):
        asked = {**body, "guardrails": ["short answer"]}
        told = gateway.client.post(path, json=asked, headers={"x-litellm-api-key": MASTER_KEY})
        assert told.status_code == 400, told.text
        assert "did you mean short answers?" in told.json()["error"]["message"]
    key = gateway.new_key(guardrails=["short answers"])
    shown = gateway.admin("GET", f"/key/info?key={key}")["info"]
    assert shown["guardrails"] == ["short answers"]
    listed = gateway.admin("GET", "/guardrails/list")["guardrails"]
    assert [each["guardrail_name"] for each in listed][:2] == ["short answers", "no web"]
    assert listed[0]["litellm_params"] == {
        "guardrail": "request_rules",
        "mode": ["pre_call"],
        "action": "block",
        "default_on": False,
    }
    changed = gateway.admin("POST", "/key/update", json={"key": key, "guardrails": None})
    assert changed["guardrails"] == []


def test_a_reload_changes_what_must_be_passed(gateway: Gateway) -> None:
    # Given a guardrail that is taken out of the file, and one that is put on for all, when the
    # file is reloaded, then all keys pass the one, and keys that name the other pass nothing.
    free, short = gateway.new_key(), gateway.new_key(guardrails=["short answers"])
    assert ask(gateway, free, max_tokens=2000).status_code == 200
    before = gateway.config.read_text()
    config = yaml.safe_load(before)
    web = config["guardrails"][1]
    web["litellm_params"] |= {"default_on": True, "max_tokens_max": 500}
    gateway.config.write_text(yaml.safe_dump({**config, "guardrails": [web]}))
    done = gateway.admin("POST", "/config/reload")
    assert (done["changed"], done["taken_by_all"]) == (["guardrails"], True)
    assert "at most 500" in refused(ask(gateway, free, max_tokens=501))
    assert "is not in the gateway's configuration" in refused(ask(gateway, short, max_tokens=1))
    gateway.config.write_text(before)
    gateway.admin("POST", "/config/reload")
    assert ask(gateway, free, max_tokens=501).status_code == 200
