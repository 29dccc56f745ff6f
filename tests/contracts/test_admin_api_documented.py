"""docs/admin-api.md and the OpenAPI document are subjects of tests: they say what is served."""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.admin import errors, openapi
from services.admin.app import ROUTES
from services.admin.bodies import GenerateKey
from services.admin.bodies_owners import NewTeam, NewUser
from services.admin.describing import Description
from services.admin.docs_page import DOCS_HEADERS, render_docs
from services.admin.fields import KEY_FIELDS_WITHOUT_MEANING, OWNER_FIELDS_WITHOUT_MEANING
from services.admin.litellm_routes import REFUSED, SERVED, page
from services.admin.openapi import OpenApi
from services.admin.reading import decode_body
from services.client import cli, gateway

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "admin-api.md").read_text()
API = OpenApi(ROUTES).document
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in API["paths"].items()
    for method, operation in operations.items()
}
DESCRIPTIONS: dict[str, Description] = {
    re.sub(r":\w+}", "}", f"{method} {path}"): handler.opt["description"]
    for handler in ROUTES
    for path in sorted(handler.paths)
    for method in handler.http_methods
}


def part_of(route: str) -> str:
    """Return the text under a route's heading."""
    heading = f"### {route}\n"
    assert DOCUMENT.count(heading) == 1, f"no heading, or two: {heading}"
    return re.split(r"^##", DOCUMENT.partition(heading)[2], maxsplit=1, flags=re.MULTILINE)[0]


def rows_of(text: str) -> set[str]:
    """Return the names in the first column of the tables of a text."""
    return set(re.findall(r"^\| `([a-z_]+)` \|", text, flags=re.MULTILINE))


def test_every_route_has_its_heading_and_no_other_is_described() -> None:
    # Given the routes and the headings, when they are compared, then they are the same.
    headings = re.findall(r"^### ((?:GET|POST|DELETE|PUT|PATCH) .+)$", DOCUMENT, flags=re.MULTILINE)
    assert sorted(headings) == sorted(OPERATIONS) == sorted(DESCRIPTIONS)


@pytest.mark.parametrize("route", sorted(DESCRIPTIONS))
def test_example_in_the_document_is_the_one_in_openapi_and_is_valid(route: str) -> None:
    # Given a route that takes a body, when its example is read, then the route would accept it.
    description = DESCRIPTIONS[route]
    examples = re.findall(r"```json\n(.*?)```", part_of(route), flags=re.DOTALL)
    if description.body is None:
        assert examples == []
        return
    assert [msgspec.json.decode(text) for text in examples] == [description.example_body]
    content = OPERATIONS[route]["requestBody"]["content"]["application/json"]
    assert content["example"] == description.example_body
    decode_body(examples[0].encode(), description.body, KEY_FIELDS_WITHOUT_MEANING)


@pytest.mark.parametrize("route", ["POST /key/generate", "POST /ledger/sql"])
def test_every_field_of_a_body_is_described(route: str) -> None:
    body = DESCRIPTIONS[route].body
    assert body is not None
    assert rows_of(part_of(route)) == set(body.__struct_encode_fields__)


@pytest.mark.parametrize(
    "route", [route for route, description in DESCRIPTIONS.items() if description.query]
)
def test_every_query_parameter_is_described(route: str) -> None:
    query = DESCRIPTIONS[route].query
    assert query is not None
    names = set(query.__struct_encode_fields__)
    assert rows_of(part_of(route)) == names
    assert {parameter["name"] for parameter in OPERATIONS[route]["parameters"]} == names


def test_every_status_is_described_with_its_type() -> None:
    # Given all answers of all routes, when the table of errors is read, then each is in it.
    table = dict(re.findall(r"^\| (\d{3}) \| `(\w+)` \|", DOCUMENT, flags=re.MULTILINE))
    answered = {code for operation in OPERATIONS.values() for code in operation["responses"]}
    assert set(table) == (answered - {"200"}) | {"405"}
    assert {code: table[str(code)] for code in errors._TYPES} == errors._TYPES
    assert set(openapi._STATUS_TEXTS) == {int(code) for code in answered - {"200"}}


def test_every_exit_code_is_described() -> None:
    codes = re.findall(
        r"^\| (\d{1,3}) \| [a-z]", DOCUMENT.partition("| exit code")[2], re.MULTILINE
    )
    assert {int(code) for code in codes} == {
        0,
        2,
        gateway.EXIT_REFUSED,
        gateway.EXIT_UNAVAILABLE,
        gateway.EXIT_UNAUTHENTICATED,
        cli.EXIT_INTERRUPTED,
    }


def references(value: Any) -> set[str]:
    """Return all `$ref`s in a JSON value."""
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(part) for part in value.values()))
    if isinstance(value, list):
        return set().union(*(references(part) for part in value))
    return set()


def test_openapi_document_holds_together() -> None:
    # Given the document, when it is walked, then references lead somewhere, ids are unique, and
    # money is a number everywhere.
    names = {f"#/components/schemas/{name}" for name in API["components"]["schemas"]}
    assert references(API) <= names
    ids = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(ids) == len(set(ids))
    assert b'"decimal"' not in msgspec.json.encode(API)
    assert API["openapi"] == "3.1.0"
    # Patterns are those of JSON Schema (ECMA-262), which has no \\Z.
    assert rb"\Z" not in msgspec.json.encode(API)
    for route, operation in OPERATIONS.items():
        assert operation["summary"], route
        assert operation["description"], route


def test_page_needs_no_script_and_no_other_host() -> None:
    # Given the page, when its text is searched, then it loads nothing and runs nothing.
    page = render_docs(API)
    assert not re.search(r"<script|<link|<img|<iframe|@import|url\(|src=|https?://", page)
    # And its policy admits the one style sheet that it has, by its digest, and nothing else.
    (style,) = re.findall(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = DOCS_HEADERS["content-security-policy"]
    assert f"default-src 'none'; style-src 'sha256-{digest}';" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<[^>]* style=", page)
    assert all(path in page for path in API["paths"])


def test_page_escapes_every_text() -> None:
    # Given a document whose texts are markup, when the page is made, then none of it is markup.
    evil = "<img src=x onerror=alert(1)>"
    changed = msgspec.json.decode(msgspec.json.encode(API))
    changed["info"]["title"] = changed["info"]["description"] = evil
    for operations in changed["paths"].values():
        for operation in operations.values():
            operation["summary"] = operation["description"] = evil
            operation["tags"] = [evil]
    for schema in changed["components"]["schemas"].values():
        schema["description"] = evil
    assert "<img" not in render_docs(changed)


def test_page_of_litellms_routes_is_as_the_code_says() -> None:
    # Given the routes that are served and those that are refused by name, when the page is made
    # anew, then it is the one in docs, its links lead to headings, and no route is in both parts.
    text = (ROOT / "docs" / "litellm-routes.md").read_text()
    assert text == page(), "python -m services.admin.litellm_routes docs/litellm-routes.md"
    assert set(SERVED) <= set(OPERATIONS)
    served = {route.partition(" ")[2] for route in OPERATIONS}
    assert not served & set(REFUSED)
    anchors = {
        re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^### (.+)$", DOCUMENT, flags=re.MULTILINE)
    }
    assert set(re.findall(r"admin-api\.md#([^)]+)", text)) <= anchors


LITELLM_FIELDS: dict[type[msgspec.Struct], tuple[str, dict[str, str]]] = {
    GenerateKey: (
        """
        key_alias duration models spend max_budget soft_budget budget_duration budget_limits
        model_max_budget budget_fallbacks user_id team_id organization_id project_id agent_id
        budget_id max_parallel_requests tpm_limit rpm_limit tpd_limit model_rpm_limit
        model_tpm_limit mcp_rpm_limit tag_rpm_limit rpm_limit_type tpm_limit_type metadata tags
        aliases config permissions guardrails policies prompts blocked allowed_routes
        allowed_cache_controls allowed_passthrough_routes allowed_vector_store_indexes auto_rotate
        rotation_interval send_invite_email enforced_params throttle_on_budget_exceeded
        enable_prompt_caching object_permission router_settings access_group_ids
        disable_global_guardrails end_user_budget_id key key_type
        """,
        KEY_FIELDS_WITHOUT_MEANING,
    ),
    NewTeam: (
        """
        team_alias team_id organization_id admins members members_with_roles metadata tpm_limit
        rpm_limit tpd_limit max_budget soft_budget budget_duration budget_limits models blocked
        model_aliases model_max_budget tags guardrails policies prompts team_member_budget
        team_member_budget_duration team_member_rpm_limit team_member_tpm_limit
        team_member_key_duration model_rpm_limit model_tpm_limit object_permission router_settings
        access_group_ids allowed_passthrough_routes allowed_vector_store_indexes
        disable_global_guardrails tpm_limit_type rpm_limit_type secret_manager_settings
        enforced_file_expires_after team_member_permissions default_team_member_models
        allow_team_guardrail_config model_id
        """,
        OWNER_FIELDS_WITHOUT_MEANING,
    ),
    NewUser: (
        """
        user_id user_email user_alias user_role teams organizations auto_create_key
        send_invite_email sso_user_id models spend max_budget soft_budget budget_duration
        budget_limits model_max_budget metadata tpm_limit rpm_limit max_parallel_requests key_alias
        duration aliases config permissions blocked guardrails policies prompts organization_id
        object_permission model_rpm_limit model_tpm_limit allowed_cache_controls agent_id budget_id
        """,
        OWNER_FIELDS_WITHOUT_MEANING,
    ),
}
"""The fields of LiteLLM's requests, and those of them that are refused by their name here."""


@pytest.mark.parametrize("body", LITELLM_FIELDS)
def test_every_field_of_litellm_means_something_or_is_refused_by_its_name(
    body: type[msgspec.Struct],
) -> None:
    # Given LiteLLM's fields of a request, when each is looked for, then it is known, in one way.
    names, refused = LITELLM_FIELDS[body]
    known = set(body.__struct_encode_fields__)
    assert set(names.split()) <= known | set(refused)
    assert not known & set(refused)
