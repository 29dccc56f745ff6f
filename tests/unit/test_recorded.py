"""The recorded requests and the bodies made after them have the shape of the client's own."""

import json

import pytest

from tests.support.recorded import (
    BODY_BYTES,
    claude_code_body,
    recorded_request,
    recorded_requests,
)


def test_body_has_the_shape_and_size_of_the_recorded_one() -> None:
    # given the body that stands for the recorded one
    body = claude_code_body()
    decoded = json.loads(body)
    # then size, keys and their order are the same
    recorded = recorded_request("oauth_with_virtual_key")
    assert len(body) == recorded.body_bytes == BODY_BYTES
    assert tuple(decoded) == recorded.body_keys
    assert [message["role"] for message in decoded["messages"]] == ["user", "system"]
    assert len(decoded["tools"]) == 12
    assert json.loads(decoded["metadata"]["user_id"])["session_id"]


@pytest.mark.parametrize("body_bytes", [40_000, 200_000])
def test_body_has_the_size_that_is_asked_for(body_bytes: int) -> None:
    assert len(claude_code_body(prompt="grüße", body_bytes=body_bytes)) == body_bytes


def test_body_that_cannot_be_so_small_is_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        claude_code_body(body_bytes=1_000)


def test_headers_follow_the_body_and_the_replacements() -> None:
    # given the recorded headers, another body and another virtual key
    headers = recorded_request("oauth_with_virtual_key").headers_for(
        b"{}", replaced={"x-litellm-api-key": "Bearer sk-other"}
    )
    # then case and order stay, and the values fit
    assert headers[0] == ("Accept", "application/json")
    assert ("Content-Length", "2") in headers
    assert ("x-litellm-api-key", "Bearer sk-other") in headers
    assert "host" not in {name.lower() for name, _ in headers}


def test_recordings_hold_only_made_up_credentials() -> None:
    made_up = {"sk-ant-oat01-fake", "sk-fake", "sk-from-helper", "sk-abc", "x"}
    for request in recorded_requests().values():
        for name, text in request.headers:
            if name.lower() in {"authorization", "x-api-key", "x-litellm-api-key"}:
                assert text.removeprefix("Bearer ") in made_up
