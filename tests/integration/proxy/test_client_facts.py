"""What a request tells of its client is booked with it, however the request ends."""

import json
from pathlib import Path

import httpx

from schemas.client_facts import ClientFacts
from schemas.events import UsageRecord
from tests.support.mock import MockAnthropic, Scenario, scenario_headers
from tests.support.nats import running_nats
from tests.support.proxy import gateway_config, model_entry, running_proxy
from tests.support.recorded import claude_code_body
from tests.support.wire import question

USER = {
    "x-litellm-end-user-id": "alice@corp.example",
    "x-claude-gateway-user-id": "user-alice",
    "x-claude-gateway-user-email": "alice@corp.example",
    "x-litellm-tags": "web,nightly",
}


def facts_of(record: UsageRecord) -> ClientFacts:
    assert record.client is not None
    return record.client


def test_facts_are_booked_and_end_users_are_believed_of_keys_that_may_name_them(
    tmp_path: Path,
) -> None:
    # Given a key that may name end users and one that may not, when both name one, in a request
    # that is answered, one that the deployment refuses, one that counts tokens and one about
    # batches, then the first one's word is booked alone, and no header of it goes on.
    body = claude_code_body()
    small = json.dumps(question(model="anthropic-claude", stream=False)).encode()
    refused = scenario_headers(Scenario(reply="error", status=400))
    with (
        MockAnthropic.started(tmp_path) as mock,
        running_nats(tmp_path) as nats,
        running_proxy(tmp_path, nats.url, gateway_config(model_entry(mock.url))) as proxy,
    ):
        trusted = proxy.issue_key(key_alias="trusted", names_end_users=True)
        plain = proxy.issue_key(key_alias="plain")
        common = {
            "authorization": "Bearer sk-ant-oat01-mock-token-of-a-subscriber",
            "user-agent": "claude-cli/2.1.330 (external, cli)",
            "anthropic-version": "2023-06-01",
            "x-claude-code-agent-id": "a-1",
        } | USER
        with httpx.Client(base_url=proxy.url, timeout=30, headers=common) as client:
            for path, sent, key, more in (
                ("/v1/messages", body, trusted, {}),
                ("/v1/messages", body, plain, {}),
                ("/v1/messages", body, trusted, refused),
                ("/v1/messages/count_tokens", small, trusted, {}),
            ):
                headers = {"x-litellm-api-key": key, "content-type": "application/json"} | more
                client.post(path, content=sent, headers=headers).read()
            client.get("/v1/messages/batches", headers={"x-litellm-api-key": trusted}).read()
        answered, unbelieved, failed, counted, batches = proxy.recorded(5)
        started = proxy.started()
        seen = mock.wait_for_requests(5)

    assert [each.http_status for each in (answered, unbelieved, failed)] == [200, 200, 400]
    for record in (answered, failed):
        facts = facts_of(record)
        assert (facts.purpose, facts.agent_id, facts.tool_count) == ("agent", "a-1", 12)
        assert facts.tags == "nightly,web"
        assert (facts.end_user_id, facts.end_user_email) == ("user-alice", "alice@corp.example")
    assert started[0].data.client == answered.client
    assert (facts_of(unbelieved).end_user_id, facts_of(unbelieved).end_user_email) == (None, None)
    assert (facts_of(counted).purpose, facts_of(counted).end_user_id) == (
        "count_tokens",
        "user-alice",
    )
    assert (facts_of(batches).name, facts_of(batches).end_user_id) == ("claude-cli", "user-alice")
    for request in seen:
        names = {name.lower() for name, _ in request.headers}
        assert names.isdisjoint(USER), names
