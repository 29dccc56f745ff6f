"""Every route is closed to strangers, and whatever goes wrong has one shape."""

import re
from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import pytest

from services.admin.app import ROUTES
from services.admin.failures import FAILURES_MAX
from services.admin.litellm_routes import REFUSED, SERVED
from services.admin.reading import BODY_BYTES_MAX
from tests.support.admin import MASTER_KEY, RunningAdmin

PUBLIC = {
    "/health/liveliness",
    "/health/liveness",
    "/health/readiness",
    "/openapi.json",
    "/docs",
}
OPERATIONS = sorted(
    (method, path)
    for handler in ROUTES
    for path in handler.paths
    for method in handler.http_methods
)
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


_ADDRESSES = count(2)


@pytest.fixture
def stranger(admin: RunningAdmin) -> Iterator[httpx.Client]:
    """A client without a credential, from a loopback address of its own: failures are counted."""
    transport = httpx.HTTPTransport(local_address=f"127.0.0.{next(_ADDRESSES)}")
    with httpx.Client(base_url=admin.url, transport=transport) as client:
        yield client


def assert_error(response: httpx.Response, status: int) -> dict[str, Any]:
    """Assert the one error shape; return its inner object."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert body["request_id"] == response.headers["request-id"]
    assert re.fullmatch(r"tg_[0-9a-f]{32}", body["request_id"])
    error: dict[str, Any] = body["error"]
    assert set(error) == {"type", "message", "param", "code"}
    assert (error["type"], error["code"]) == (TYPES[status], str(status))
    assert error["message"]
    return error


def test_there_are_routes_and_only_the_named_ones_are_public() -> None:
    # Given the routes, when they say who may use them, then the public ones are those named here.
    public = {
        path
        for handler in ROUTES
        if handler.opt.get("access") == "public"
        for path in handler.paths
    }
    assert public == PUBLIC
    assert len(OPERATIONS) >= 15


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_route_is_closed_without_the_right_credential(
    admin: RunningAdmin, stranger: httpx.Client, method: str, path: str
) -> None:
    # Given a route, when it is called without and with a wrong credential,
    # Then it is refused before anything else is looked at, unless it is public.
    for headers in ({}, {"Authorization": "Bearer sk-wrong"}, {"x-api-key": "sk-wrong"}):
        response = stranger.request(method, path, headers=headers, content=b"{")
        if path in PUBLIC:
            assert response.status_code == 200
        else:
            assert_error(response, 401)
    for path_like in (f"/{path}", f"{path}/", path.replace("/", "/%2e/", 1)):
        response = stranger.request(method, f"{admin.url}{path_like}")
        assert path in PUBLIC or response.status_code in {400, 401, 404}


@pytest.mark.parametrize(
    "headers",
    [
        {"x-litellm-api-key": MASTER_KEY},
        {"x-litellm-api-key": f"Bearer {MASTER_KEY}"},
        {"Authorization": f"Bearer {MASTER_KEY}"},
        {"x-api-key": MASTER_KEY},
        {"Authorization": "Bearer sk-ant-oat01-of-claude-code", "x-api-key": MASTER_KEY},
        {"Authorization": "Bearer sk-ant-oat01-x", "x-litellm-api-key": MASTER_KEY},
    ],
)
def test_master_key_is_found_in_each_header(
    stranger: httpx.Client, headers: dict[str, str]
) -> None:
    # Given the master key in one of its places, when a route is called, then it opens.
    assert stranger.get("/key/list", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("x-litellm-api-key", "sk-wrong"), ("Authorization", f"Bearer {MASTER_KEY}")],
        [("Authorization", f"Basic {MASTER_KEY}")],
        [("Authorization", MASTER_KEY)],
        [("Authorization", f"Bearer {MASTER_KEY}x")],
        [("Authorization", f"Bearer {MASTER_KEY[:-1]}")],
        [("Authorization", "Bearer")],
        [("x_litellm_api_key", MASTER_KEY)],
    ],
)
def test_wrong_places_and_near_misses_are_refused(
    stranger: httpx.Client, headers: list[tuple[str, str]]
) -> None:
    # Given a credential that is nearly right, when a route is called, then it stays closed.
    assert_error(stranger.get("/key/list", headers=headers), 401)


@pytest.mark.parametrize("name", ["x-litellm-api-key", "authorization", "x-api-key"])
def test_credential_sent_twice_is_refused(stranger: httpx.Client, name: str) -> None:
    # Given two values of one header, when a route is called, then 400: which one was meant?
    headers = [(name, f"Bearer {MASTER_KEY}"), (name, "Bearer sk-other")]
    assert_error(stranger.get("/key/list", headers=headers), 400)
    assert_error(stranger.get("/key/list", headers={name: "x" * 10_000}), 400)


@pytest.mark.parametrize(
    ("method", "path", "request_parts", "status"),
    [
        ("GET", "/no/such/route", {}, 404),
        ("GET", "/key", {}, 404),
        ("GET", "/key/generate", {}, 405),
        ("DELETE", "/key/info", {}, 405),
        ("POST", "/key/generate", {"content": b"", "headers": {"content-type": "a/b"}}, 415),
        ("POST", "/key/generate", {"data": {"a": "1"}}, 415),
        ("POST", "/key/generate", {"json": [1]}, 400),
        ("POST", "/key/generate", {"json": None, "content": b"\xff\xfe"}, 400),
        ("POST", "/key/generate", {"content": b"[" * 100_000}, 400),
        ("POST", "/key/generate", {"content": b'{"metadata":' + b'{"a":' * 100_000}, 400),
        ("POST", "/key/generate", {"content": b'"' + b"a" * BODY_BYTES_MAX + b'"'}, 413),
        ("POST", "/key/generate", {"json": {"key_alias": ""}}, 400),
        ("POST", "/key/generate", {"json": {"key_alias": "a\nb"}}, 400),
        ("POST", "/key/generate", {"json": {"key_alias": "x" * 257}}, 400),
        ("POST", "/key/generate", {"json": {"models": ["m"] * 1001}}, 400),
        ("POST", "/key/generate", {"json": {"metadata": {"a": "x" * 20_000}}}, 400),
        ("POST", "/key/generate", {"json": {"budget_duration": "2mo"}}, 400),
        ("POST", "/key/generate", {"json": {"duration": "0d"}}, 400),
        ("POST", "/key/generate", {"json": {"key": "sk-short"}}, 400),
        ("POST", "/key/generate", {"json": {"key": "no-prefix-but-long-enough"}}, 400),
        ("POST", "/key/generate", {"json": {"models": ["no-default-models"]}}, 400),
        ("POST", "/key/generate", {"json": {"key_type": "master"}}, 400),
        ("POST", "/key/update", {"json": {"max_budget": 1}}, 400),
        ("POST", "/key/update", {"json": {"key": "sk-unknown"}}, 404),
        ("POST", "/key/block", {"json": {"key": "sk-unknown"}}, 404),
        ("POST", "/key/delete", {"json": {}}, 400),
        ("POST", "/key/delete", {"json": {"keys": ["a"], "key_aliases": ["b"]}}, 400),
        ("POST", "/key/delete", {"json": {"keys": ["sk-unknown"]}}, 404),
        ("GET", "/key/info", {}, 400),
        ("GET", "/key/info", {"params": {"key": "sk-unknown"}}, 404),
        ("GET", "/key/list", {"params": {"size": "101"}}, 400),
        ("GET", "/key/list", {"params": {"page": "0"}}, 400),
        ("GET", "/key/list", {"params": {"page": "x"}}, 400),
        ("GET", "/key/list", {"params": {"pgae": "1"}}, 400),
        ("GET", "/key/list", {"params": [("page", "1"), ("page", "2")]}, 400),
        ("GET", "/spend/logs", {"params": {"start_date": "2026-13-01"}}, 400),
        ("GET", "/spend/logs", {"params": {"start_date": "yesterday"}}, 400),
        ("GET", "/spend/logs", {"params": {"api_key": "sk-unknown"}}, 404),
        ("POST", "/ledger/sql", {"json": {}}, 400),
        ("POST", "/ledger/sql", {"json": {"query": "x" * 70_000}}, 400),
        ("POST", "/ledger/sql", {"json": {"query": "SELECT 1"}}, 503),
        ("GET", "/spend/logs", {}, 503),
        ("GET", "/global/spend", {}, 503),
    ],
)  # fmt: skip
def test_every_error_has_one_shape(
    admin: RunningAdmin, method: str, path: str, request_parts: dict[str, Any], status: int
) -> None:
    # Given a request that cannot be served, when it is sent (no ledger runs here),
    if "content" in request_parts:
        request_parts = {"headers": {"content-type": "application/json"}} | request_parts
    response = admin.http.request(method, path, **request_parts)
    assert (status == 405) == ("allow" in response.headers)
    # Then the answer has the one shape, and nothing was a fault.
    assert_error(response, status)
    assert "ended by a fault" not in admin.log


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"tpd_limit": 10}, "tpd_limit", "no effect"),
        ({"rpm_limit": 0}, "rpm_limit", ">= 1"),
        ({"model_rpm_limit": {"m": "ten"}}, "model_rpm_limit", "Expected `int`"),
        ({"guardrails": ["pii"]}, "guardrails", "not in the configuration's guardrails"),
        ({"model_max_budget": {"m": 1}}, "model_max_budget", "Expected `object`"),
        ({"budget_limits": [{"max_budget": 1}]}, "budget_limits", "budget_duration"),
        ({"temp_budget_increase": 1}, "temp_budget_increase", "set max_budget too"),
        ({"max_budgets": 1}, "max_budgets", "did you mean max_budget?"),
        ({"models": [1]}, "models", "Expected `str`"),
        ({"max_budget": "ten"}, "max_budget", "decimal"),
        ({"blocked": "yes"}, "blocked", "bool"),
    ],
)
def test_wrong_field_is_refused_by_its_name(
    admin: RunningAdmin, body: dict[str, Any], field: str, words: str
) -> None:
    # Given a field without a meaning, mistyped or of a wrong type, when it is sent,
    error = assert_error(admin.http.post("/key/generate", json=body), 400)
    # Then the error names it and says what to do.
    assert error["param"] == field
    assert words in error["message"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/key/list?status=blocked", "status: must be one of active, deleted, expired, revoked"),
        ("/key/list?sort_order=up", "sort_order: must be one of asc, desc"),
        ("/key/list?user_id=a%0Ab", "user_id: must hold no control characters"),
        ("/spend/logs?start_date=yesterday", "start_date must be a date such as 2026-11-30"),
        ("/spend/logs?end_date=2026-02-30", "end_date must be a date such as 2026-11-30"),
    ],
)
def test_wrong_value_is_answered_with_what_it_may_be(
    admin: RunningAdmin, target: str, said: str
) -> None:
    # Given a query parameter whose value means nothing, then the message says what one may be.
    error = assert_error(admin.http.get(target), 400)
    assert error["message"] == said


def test_litellms_empty_fields_are_accepted(admin: RunningAdmin) -> None:
    # Given a script that sends LiteLLM's unset fields, when it makes a key, then it gets one.
    body = {"rpm_limit": None, "aliases": {}, "guardrails": [], "send_invite_email": False}
    assert admin.http.post("/key/generate", json={**body, "spend": 0}).status_code == 200


def test_head_and_headers_have_limits(admin: RunningAdmin) -> None:
    # Given too many or too long headers, when a route is called, then 400 in the one shape.
    many = [(f"x-{number}", "1") for number in range(200)]
    assert_error(admin.http.get("/key/list", headers=many), 400)
    assert_error(admin.http.get("/key/list", headers={"x-long": "x" * 70_000}), 400)


def test_guessing_the_master_key_is_stopped_after_ten_tries(
    admin: RunningAdmin, stranger: httpx.Client
) -> None:
    # Given an attacker who tries different keys, and a virtual key used from the same address,
    key = admin.generate()["key"]
    for number in range(FAILURES_MAX):
        assert_error(stranger.get("/key/list", headers={"x-api-key": f"sk-guess-{number}"}), 401)
    # When ten were wrong, then nothing more is compared from there: 429 with a time to wait,
    # for the right key too. The virtual key and other addresses go on working.
    response = stranger.get("/key/list", headers={"x-api-key": "sk-guess-again"})
    assert_error(response, 429)
    assert 0 < int(response.headers["retry-after"]) <= 61
    assert_error(stranger.get("/key/list", headers={"x-api-key": MASTER_KEY}), 429)
    assert stranger.get("/key/info", headers={"x-api-key": str(key)}).status_code == 200
    assert admin.http.get("/key/list").status_code == 200


def test_script_with_an_old_key_locks_nobody_out(stranger: httpx.Client) -> None:
    # Given a script that repeats one wrong key, when it was refused often, then it gets 429,
    for number in range(FAILURES_MAX + 1):
        response = stranger.get("/key/list", headers={"x-api-key": "sk-old"})
        assert response.status_code == (401 if number < FAILURES_MAX else 429)
    # And the master key works from the same address.
    assert stranger.get("/key/list", headers={"x-api-key": MASTER_KEY}).status_code == 200


def test_every_route_of_litellm_is_here_or_is_refused_by_its_name(admin: RunningAdmin) -> None:
    # Given LiteLLM's management routes, when each is called with the master key,
    for route in SERVED:
        method, path = route.split(" ")
        answer = admin.http.request(method, path.replace("{", "").replace("}", ""))
        # Then it is here: what it answers is about the request (no ledger runs), not about itself,
        if answer.status_code == 404:
            assert answer.json()["error"]["param"], f"{route}: {answer.text}"
        assert answer.status_code != 405, route
    for route, reason in REFUSED.items():
        # Or the answer names it and what there is in its place, whatever stands in its path.
        path = re.sub(r"{\w+}", "sk-some-key-0123456789", route).replace("*", "any/sk-other-key")
        for method in ("GET", "POST"):
            error = assert_error(admin.http.request(method, path), 404)
            assert error["message"].startswith(f"{route} is a route of LiteLLM that"), path
            assert reason in error["message"]
            assert "sk-" not in error["message"]
    # And what is no route of anybody's is not said to be one.
    assert "LiteLLM" not in admin.http.get("/keys/list").json()["error"]["message"]
