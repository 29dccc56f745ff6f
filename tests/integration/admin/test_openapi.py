"""The OpenAPI document is kept by the running service: Schemathesis asks every route of it."""

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from hashlib import sha256
from itertools import count
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest

from services.admin.app import ROUTES
from services.admin.describing import Description
from services.admin.openapi import OpenApi
from tests.support.admin import MASTER_KEY
from tests.support.document_asked import AskedDocument
from tests.support.filled import FilledGateway, running_filled_gateway
from tests.support.litellm_script import run_script

ALLOWED, FORBIDDEN = 2, 2
"""So many requests of each route are such as the document allows, so many such as it forbids."""
STATUS = {"GET /prompt/info": 404}
"""The status of an example where it is not 200: no request was stored word for word."""
RELOADED = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c"
"""The configuration file of the example."""
DOCUMENT = OpenApi(ROUTES).document
DESCRIPTIONS: dict[str, Description] = {
    f"{method} {path.replace(':str}', '}')}": handler.opt["description"]
    for handler in ROUTES
    for path in sorted(handler.paths)
    for method in handler.http_methods
}
VARIABLE = [
    route
    for route in DESCRIPTIONS
    for method, path in [route.split(" ")]
    if not {"parameters", "requestBody"}.isdisjoint(DOCUMENT["paths"][path][method.lower()])
]
_NUMBERS = count(1)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledGateway]:
    folder = tmp_path_factory.mktemp("filled")
    with running_filled_gateway(folder, requests=20, key_alias="filled", team_id="red") as running:
        yield running


@pytest.fixture(scope="module")
def document(filled: FilledGateway) -> AskedDocument:
    """The document as it is served, for one who has the master key."""
    served = filled.admin.http.get("/openapi.json").json()
    headers = {"Authorization": f"Bearer {MASTER_KEY}"}
    return AskedDocument(served, filled.admin.url, headers)


def made(filled: FilledGateway, path: str, name: str, **body: Any) -> str:
    """Make a record for one example; return what names it."""
    answer = filled.admin.http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()[name])


MODEL = {"model_name": "m", "litellm_params": {"model": "anthropic/claude-haiku-4-5"}}
IN_PATH: dict[str, Callable[[FilledGateway], str]] = {
    "key": lambda filled: made(filled, "/key/generate", "key_id"),
    "model_id": lambda filled: made(filled, "/model/new", "model_id", **MODEL),
    "audit_id": lambda filled: filled.admin.http.get("/audit").json()["audit_logs"][-1]["id"],
}
"""What stands in the path of an example, by its name."""


def as_here(filled: FilledGateway, example: dict[str, Any]) -> dict[str, Any]:
    """Return an example about records that are here, each made for it."""
    number = next(_NUMBERS)
    here: dict[str, Callable[[], str]] = {
        "sk-...": lambda: made(filled, "/key/generate", "key"),
        "developer-1": lambda: made(filled, "/key/generate", "key_alias", key_alias=f"d-{number}"),
        "blue": lambda: made(filled, "/team/new", "team_id"),
        "alice@example.com": lambda: made(filled, "/user/new", "user_id"),
        "claude-fast-1": lambda: made(filled, "/model/new", "model_id", **MODEL),
        RELOADED: lambda: sha256(filled.admin.config_path.read_bytes()).hexdigest(),
    }
    text = msgspec.json.encode(example).decode()
    for name, make in here.items():
        if f'"{name}"' in text:
            text = text.replace(f'"{name}"', f'"{make()}"')
    found: dict[str, Any] = msgspec.json.decode(text)
    return found


@pytest.mark.parametrize("route", DESCRIPTIONS)
def test_example_of_the_document_is_answered_as_it_says(
    filled: FilledGateway, document: AskedDocument, route: str
) -> None:
    # Given the records that an example names, when it is sent as the document has it,
    description = DESCRIPTIONS[route]
    is_new = route.endswith("/new") or route == "POST /key/generate"
    parts: dict[str, Any] = {"query": as_here(filled, dict(parse_qsl(description.example_query)))}
    if found := re.search(r"{(\w+)}", route):
        parts["path_parameters"] = {found[1]: IN_PATH[found[1]](filled)}
    if description.body is not None:
        example = description.example_body or {}
        parts["body"] = example if is_new else as_here(filled, example)
    if route in ("POST /team/member_update", "POST /team/member_delete"):
        member = {"user_id": parts["body"]["user_id"]}
        made(filled, "/team/member_add", "team_id", team_id=parts["body"]["team_id"], member=member)
    # Then it is done, and the answer is of the type that the document has for it.
    assert document.ask(route, **parts) == STATUS.get(route, 200)


@pytest.mark.parametrize("route", VARIABLE)
def test_every_route_answers_as_the_document_says_whatever_is_asked(
    document: AskedDocument, route: str
) -> None:
    # Given requests as the document allows them and as it forbids them, when they are sent,
    # then the status and the shape of each answer are documented, and none is a server's fault.
    if route != "POST /config/reload":  # which would ask all processes and wait for them
        document.ask_many(route, "allowed", ALLOWED)
    if not route.endswith("}"):  # where any text may stand
        document.ask_many(route, "forbidden", FORBIDDEN)


def test_the_last_thirty_days_are_shown_by_key_model_team_and_day(filled: FilledGateway) -> None:
    # Given 20 requests of now, at $0.0165 each, when LiteLLM's pages ask, then each sum is theirs.
    def get(path: str) -> Any:
        return msgspec.json.Decoder(float_hook=Decimal).decode(filled.admin.http.get(path).content)

    total = Decimal("0.33")
    (key,) = get("/global/spend/keys?limit=1")
    assert (key["api_key"], key["key_alias"]) == (filled.key["token"], "filled")
    assert (key["key_name"], key["total_spend"]) == (filled.key["key_name"], total)
    (model,) = get("/global/spend/models")
    assert model == {"model": "claude-sonnet-4-20250514", "total_spend": total}
    teams = get("/global/spend/teams")
    assert teams["teams"] == ["red"]
    assert teams["total_spend_per_team"] == [{"team_id": "red", "total_spend": total}]
    # The requests may have come in around a midnight.
    assert sum(day["red"] for day in teams["daily_spend"]) == total
    days = get(f"/global/spend/logs?api_key={filled.key['key']}")
    assert sum(day["spend"] for day in days) == total
    assert [day["date"] for day in days] == [day["date"] for day in teams["daily_spend"]]


def test_one_change_is_shown_by_its_id_in_the_audit(filled: FilledGateway) -> None:
    # Given changes in the audit, when one is asked for by its id, then it is the same one.
    (listed,) = filled.admin.http.get("/audit?object_name=filled").json()["audit_logs"]
    shown = filled.admin.http.get(f"/audit/{listed['id']}")
    assert shown.json() == listed
    for audit_id, status in (("REGISTRY:999999", 404), ("REGISTRY", 400), ("x:1'--", 400)):
        assert filled.admin.http.get(f"/audit/{audit_id}").status_code == status


def test_model_in_the_path_is_changed(filled: FilledGateway) -> None:
    # Given a model of the registry, when it is changed as LiteLLM's clients do it with PATCH,
    params = {"model": "anthropic/claude-haiku-4-5", "rpm": 5}
    body = {"model_name": "m", "litellm_params": params, "model_info": {"id": "patched"}}
    etag = filled.admin.http.post("/model/new", json=body).headers["etag"]
    answer = filled.admin.http.patch(
        "/model/patched/update", json={"litellm_params": {"rpm": 6}}, headers={"If-Match": etag}
    )
    # Then what is named is changed and the rest stays; another id in the body is refused.
    assert answer.json()["litellm_params"] == params | {"rpm": 6}
    assert answer.headers["etag"] != etag
    other = {"model_info": {"id": "other"}}
    assert filled.admin.http.patch("/model/patched/update", json=other).status_code == 400
    assert filled.admin.http.patch("/model/no/update", json={}).status_code == 404
    (shown,) = filled.admin.http.get("/v1/model/info?litellm_model_id=patched").json()["data"]
    assert shown["litellm_params"]["rpm"] == 6


def test_script_that_was_written_for_litellm_runs_unchanged(filled: FilledGateway) -> None:
    # Given an admin script for LiteLLM (keys, teams, members, users, models, spend), when it runs
    # against this gateway, then every status and field that it counts on is there.
    run_script(filled.admin.url, MASTER_KEY)
