"""The OpenAPI 3.1 document, made from the handlers: what is not described cannot be served."""

import re
from collections.abc import Iterable
from functools import cached_property
from importlib.metadata import version
from typing import Any

import msgspec
from litestar.handlers import HTTPRouteHandler

from services.admin.describing import Description
from services.admin.docs_page import render_docs
from services.admin.errors import JSON, AdminErrorBody
from services.admin.packing import Packed

__all__ = ["OpenApi"]

ARROW = "application/vnd.apache.arrow.stream"
_PYTHON_END = r"\Z"
_PATH_PARAMETER = re.compile(r"{(\w+):\w+}")
_REF = "#/components/schemas/{name}"
_ALWAYS = (400, 401, 403, 429, 500, 503)
"""Answers that every route may give which asks for a key."""
_WITH_BODY = (408, 413, 415)
"""Answers that every route may give which takes a body."""
_STATUS_TEXTS = {
    400: "The request is wrong; `error.param` names the field",
    401: "No credential, or a wrong one",
    403: "The credential is a virtual key that may not do this",
    404: "There is no such key, team or user",
    408: "It took too long",
    409: "The alias or id is taken, or somebody else made a change at the same moment",
    412: "The record is no longer in the state that `If-Match` names",
    413: "The body is too large",
    415: "The body is not JSON",
    429: "Too many wrong credentials",
    500: "A fault of tallygate",
    503: "NATS or the ledger cannot be reached, or too many requests are running",
}


_ETAG = {
    "description": "The record's state, for `If-Match` of a later change",
    "schema": {"type": "string", "pattern": '^"[1-9][0-9]*"$'},
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The ETag that the decision was made on; the change is made in no other state",
    "schema": {
        "type": "string",
        "pattern": r'^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*"){0,99})$',
    },
}


class OpenApi:
    """The document for a set of handlers. Raises KeyError for one that is not described."""

    def __init__(self, handlers: Iterable[HTTPRouteHandler]) -> None:
        self._handlers = tuple(handlers)

    @cached_property
    def json(self) -> Packed:
        """The document's bytes."""
        return Packed.of(msgspec.json.format(msgspec.json.encode(self.document), indent=2))

    @cached_property
    def page(self) -> Packed:
        """The page about it."""
        return Packed.of(render_docs(self.document).encode())

    @cached_property
    def document(self) -> dict[str, Any]:
        """The document as JSON values."""
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "tallygate: management API",
                "version": version("tallygate"),
                "description": (
                    "LiteLLM's management API, as far as it has a meaning here. Errors have one "
                    "shape on every route. Money is a JSON number whose digits are exact."
                ),
            },
            "paths": self._paths(),
            "components": {
                "schemas": self._schemas(),
                "securitySchemes": {
                    "masterKey": {"type": "http", "scheme": "bearer"},
                    "litellmKey": {"type": "apiKey", "in": "header", "name": "x-litellm-api-key"},
                    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                },
            },
        }

    def _paths(self) -> dict[str, Any]:
        paths: dict[str, Any] = {}
        for handler in self._handlers:
            for path in sorted(handler.paths):
                shown = _PATH_PARAMETER.sub(r"{\1}", path)
                for method in sorted(handler.http_methods):
                    paths.setdefault(shown, {})[method.lower()] = _operation(handler, shown)
        return paths

    def _schemas(self) -> dict[str, Any]:
        types: list[Any] = [AdminErrorBody]
        for handler in self._handlers:
            description: Description = handler.opt["description"]
            types += (description.answer, description.other_answer)
            if description.body is not None:
                types.append(description.body)
        _, components = msgspec.json.schema_components(types, ref_template=_REF)
        schemas = {name: _on_wire(schema) for name, schema in components.items()}
        for handler in self._handlers:
            body = handler.opt["description"].body
            if body is not None:
                schemas[body.__name__]["additionalProperties"] = False
        return schemas


def _operation(handler: HTTPRouteHandler, path: str) -> dict[str, Any]:
    description: Description = handler.opt["description"]
    public = handler.opt["access"] == "public"
    operation: dict[str, Any] = {
        "operationId": re.sub(r"[/.{}]+", "_", path).strip("_"),
        "summary": description.summary,
        "description": description.description,
        "tags": [description.tag],
        "x-access": handler.opt["access"],
        "security": [] if public else [{"masterKey": []}, {"litellmKey": []}, {"apiKey": []}],
        "responses": {"200": _answer(description)},
    }
    if description.query is not None:
        operation["parameters"] = _parameters(description.query)
    if in_path := re.findall(r"{(\w+)}", path):
        operation.setdefault("parameters", []).extend(
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in in_path
        )
    if 412 in description.errors:  # noqa: PLR2004
        operation.setdefault("parameters", []).append(_IF_MATCH)
    if description.body is not None:
        (schema,), _ = msgspec.json.schema_components([description.body], ref_template=_REF)
        content = {"schema": schema, "example": description.example_body}
        operation["requestBody"] = {"required": True, "content": {JSON: content}}
    codes = {*description.errors, *(() if public else _ALWAYS)}
    if description.body is not None:
        codes |= set(_WITH_BODY)
    if path == "/health/readiness":
        operation["responses"]["503"] = _answer(description)
    error = {"schema": {"$ref": _REF.format(name=AdminErrorBody.__name__)}}
    for code in sorted(codes):
        operation["responses"][str(code)] = {
            "description": _STATUS_TEXTS[code],
            "content": {JSON: error},
        }
    return operation


def _answer(description: Description) -> dict[str, Any]:
    if description.answer is None:
        return {"description": "A page", "content": {"text/html": {"schema": {"type": "string"}}}}
    types = [description.answer]
    if description.other_answer is not None:
        types.append(description.other_answer)
    schemas, _ = msgspec.json.schema_components(types, ref_template=_REF)
    numbers = [_on_wire(schema) for schema in schemas]
    schema = numbers[0] if len(numbers) == 1 else {"anyOf": numbers}
    content: dict[str, Any] = {JSON: {"schema": schema}}
    if description.table:
        # Of other forms than JSON a schema says only that they are bytes, or text.
        content |= {"text/csv": {"schema": {"type": "string"}}, ARROW: {"schema": {}}}
    answer: dict[str, Any] = {"description": "It is done", "content": content}
    if description.versioned:
        answer["headers"] = {"ETag": _ETAG}
    return answer


def _parameters(query: type[msgspec.Struct]) -> list[dict[str, Any]]:
    _, components = msgspec.json.schema_components([query], ref_template=_REF)
    properties: dict[str, Any] = components[query.__name__]["properties"]
    required = components[query.__name__].get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _on_wire(schema)}
        for name, schema in properties.items()
    ]


def _on_wire(schema: Any) -> Any:
    """Return a schema as the wire has it: money is a JSON number, patterns are ECMA-262's.

    There the end of the text is `$`; what it is in Python is a mere letter.
    """
    if isinstance(schema, dict):
        if schema.get("format") == "decimal":
            return {"type": "number"}
        return {name: _on_wire(value) for name, value in schema.items()}
    if isinstance(schema, list):
        return [_on_wire(value) for value in schema]
    if isinstance(schema, str) and schema.endswith(_PYTHON_END):
        return schema.removesuffix(_PYTHON_END) + "$"
    return schema
