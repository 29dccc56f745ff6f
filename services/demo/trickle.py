"""A slow stream of requests through the real proxy, so that something moves."""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence

import httpx

from services.demo import ids
from services.demo.conversation import Caller
from services.demo.quota import TOKEN_PREFIX

__all__ = ["trickle"]

_TIMEOUT_S = 30.0
_SESSION_TURNS = 14
_PROMPTS = (
    "Why does the nightly job skip the last day of the month?",
    "Add a test for an empty page and make it pass.",
    "Rename the table's column, and everything that reads it.",
    "The deploy fails with exit code 137. Look into it.",
    "Summarise what changed in this branch since Monday.",
)
_SECRET_PROMPT = "Use the key AKIA" + "QYLPMN5HHHFPZAM2" + " for the bucket."
_BLOCKED_PROMPT = "Draft the announcement of Project Bluebird."


class _Talk:
    """One caller's session: what was said so far."""

    def __init__(self, rng: random.Random) -> None:
        self.session_id = ids.session_id(rng)
        self.messages: list[dict[str, str]] = []


async def trickle(
    url: str,
    callers: Sequence[Caller],
    secrets: Mapping[str, str],
    *,
    per_minute: float,
    rng: random.Random,
) -> None:
    """Send requests until it is cancelled; what becomes of them is for the ledger to tell."""
    talks: dict[str, _Talk] = {}
    shares = [caller.plan.share for caller in callers]
    async with (
        httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, trust_env=False) as client,
        asyncio.TaskGroup() as group,
    ):
        while True:
            caller = rng.choices(callers, shares)[0]
            talk = talks.get(caller.key_id)
            if talk is None or len(talk.messages) > 2 * _SESSION_TURNS:
                talk = talks[caller.key_id] = _Talk(rng)
            request = _request(client, rng, caller, secrets[caller.plan.alias], talk)
            group.create_task(_send(client, request))
            await asyncio.sleep(rng.expovariate(per_minute / 60))


def _request(
    client: httpx.AsyncClient, rng: random.Random, caller: Caller, secret: str, talk: _Talk
) -> httpx.Request:
    chance = rng.random()
    if chance < 0.02:
        # It is refused, so it is no part of what comes later.
        messages = [*talk.messages, {"role": "user", "content": _BLOCKED_PROMPT}]
    else:
        said = _SECRET_PROMPT if chance < 0.05 else rng.choice(_PROMPTS)
        talk.messages.append({"role": "user", "content": said})
        messages = list(talk.messages)
        talk.messages.append({"role": "assistant", "content": "Done: the tests pass."})
    models, weights = zip(*caller.plan.models, strict=True)
    account = {"account_uuid": caller.account, "device_id": caller.device}
    body = {
        "model": rng.choices(models, weights)[0],
        "max_tokens": 8000,
        "stream": caller.plan.style != "batch",
        "system": "You are Claude Code, Anthropic's official CLI for Claude.",
        "messages": messages,
        "tools": [{"name": "Bash", "input_schema": {"type": "object"}}],
        "metadata": {"user_id": json.dumps(account)},
    }
    headers = {
        "x-litellm-api-key": f"Bearer {secret}",
        "anthropic-version": "2023-06-01",
        "content-type": "application/json",
        "user-agent": caller.user_agent,
    }
    if caller.plan.session_tags:
        headers["x-litellm-tags"] = rng.choice(caller.plan.session_tags)
    if caller.is_claude_code:
        headers["x-claude-code-session-id"] = talk.session_id
    if caller.plan.seat:
        headers["authorization"] = f"Bearer {TOKEN_PREFIX}{caller.account}"
    else:
        headers["x-api-key"] = "sk-ant-api03-demo"
    return client.build_request("POST", "/v1/messages", headers=headers, content=json.dumps(body))


async def _send(client: httpx.AsyncClient, request: httpx.Request) -> None:
    try:
        await client.send(request)
    except httpx.HTTPError:
        # The gateway ends, most likely: it says so itself.
        return
