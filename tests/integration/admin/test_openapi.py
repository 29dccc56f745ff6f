"""The OpenAPI document is kept by the running service: Schemathesis asks every route of it."""

from collections.abc import Callable, Iterator
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
    for path in handler.paths
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


def as_here(filled: FilledGateway, example: dict[str, Any]) -> dict[str, Any]:
    """Return an example about records that are here, each made for it."""
    number = next(_NUMBERS)
    model = {"model_name": "m", "litellm_params": {"model": "anthropic/claude-haiku-4-5"}}
    here: dict[str, Callable[[], str]] = {
        "sk-...": lambda: made(filled, "/key/generate", "key"),
        "developer-1": lambda: made(filled, "/key/generate", "key_alias", key_alias=f"d-{number}"),
        "blue": lambda: made(filled, "/team/new", "team_id"),
        "alice@example.com": lambda: made(filled, "/user/new", "user_id"),
        "claude-fast-1": lambda: made(filled, "/model/new", "model_id", **model),
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
    if "{key}" in route:
        parts["path_parameters"] = {"key": made(filled, "/key/generate", "key_id")}
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
    document.ask_many(route, "forbidden", FORBIDDEN)
