"""What keys may call: entries of `allowed_routes` over every route there is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.admin.app import ROUTES
from services.proxy.paths import API_PATHS
from services.runtime.key_routes import GROUPS, is_allowed, normal_route

MANAGEMENT = {
    (method, re.sub(r":\w+}", "}", path))
    for handler in ROUTES
    for path in handler.paths
    for method in handler.http_methods
    if handler.opt["access"] != "public"
}
API = {(method, path.template) for path in API_PATHS for method in path.methods}
MODELS = {(method, path) for method, path in MANAGEMENT | API if path in ("/models", "/v1/models")}


def allowed(*entries: str) -> set[tuple[str, str]]:
    return {route for route in MANAGEMENT | API if is_allowed(entries, *route)}


def test_groups_have_just_the_routes_that_are_said() -> None:
    # Given every route of the API and of the management API, when a key is limited to a group,
    # then it may call just what docs/admin-api.md says.
    assert allowed() == MANAGEMENT | API
    below_v1 = {route for route in MANAGEMENT | API if route[1].startswith("/v1/")}
    assert below_v1 >= API
    assert allowed("llm_api_routes") == allowed("anthropic_routes") == below_v1 | MODELS
    sql = {("POST", "/ledger/sql")}
    assert allowed("analyst_routes") == sql
    managing = MANAGEMENT - below_v1 - sql
    assert allowed("management_routes") == managing
    reading = {route for route in managing if route[0] == "GET"} - {("GET", "/prompt/info")}
    reading |= {("POST", "/spend/calculate")} | MODELS
    models_below = {("GET", "/v1/models/{id}"), ("HEAD", "/v1/models/{id}")}
    assert allowed("info_routes") == reading | models_below
    spend = {route for route in managing if re.match("/(spend|global/spend|.*/activity)", route[1])}
    assert allowed("spend_tracking_routes") == spend
    assert len(spend) >= 8


@pytest.mark.parametrize(
    ("entry", "path", "is_there"),
    [
        ("/v1/messages", "/v1/messages", True),
        ("/v1/messages", "/v1/messages/count_tokens", True),
        ("/v1/messages", "/v1/messages2", False),
        ("/v1/messages/count_tokens", "/v1/messages", False),
        ("/v1/mess*", "/v1/messages2", True),
        ("/key/*", "/key", False),
        ("/key/{id}/regenerate", "/key/{key}/regenerate", True),
        ("/key/{id}/regenerate", "/key/generate", False),
        ("/v1/files/{id}/content", "/v1/files/file_1/content", True),
        ("/v1/files/{id}", "/v1/files", False),
        ("/key.info", "/key/info", False),
        ("/{a}/{b}", "/key/info", True),
    ],
)
def test_paths_allow_themselves_and_what_is_below(entry: str, path: str, is_there: object) -> None:
    # Given an entry that is a path, when a path is asked for, then whole segments count.
    assert normal_route(entry) == entry
    assert is_allowed((entry,), "POST", path) is is_there
    assert is_allowed(("analyst_routes", entry), "POST", path) is is_there


@pytest.mark.parametrize(
    ("entry", "kept"),
    [
        ("/anthropic/v1/messages", "/v1/messages"),
        ("/anthropic", "/anthropic"),
        ("/", None),
        ("//v1", None),
        ("/v1/", None),
        ("/v1//x", None),
        ("v1/messages", None),
        ("*", None),
        ("/*", "/*"),
        ("/a*b", None),
        ("/a b", None),
        ("/{a b}", None),
        ("/a%2Fb", None),
        ("/" + "a" * 256, None),
        ("llm_api_route", None),
    ],
)
def test_entries_are_groups_or_plain_paths(entry: str, kept: str | None) -> None:
    # Given an entry, when it is to be kept, then it is a group or a path with one spelling.
    assert normal_route(entry) == kept


@given(st.text(max_size=300), st.sampled_from(sorted(MANAGEMENT | API)))
def test_any_text_is_refused_or_matches_without_an_error(
    entry: str, route: tuple[str, str]
) -> None:
    # Given any text, when it is taken for an entry, then it is none, or routes can be matched.
    for given_entry in (entry, "/" + entry):
        kept = normal_route(given_entry)
        assert kept is None or kept in GROUPS or kept.startswith("/")
        if kept is not None:
            is_allowed((kept,), *route)
