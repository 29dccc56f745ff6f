"""Schemathesis over the OpenAPI document: what it allows, what it forbids, what it promises.

The package is imported when it is first needed, and past pytest's rewriting of assertions: it
counts as a plugin, and to rewrite its modules costs each process that collects tests four seconds.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from hypothesis import HealthCheck, Phase, given, settings

if TYPE_CHECKING:
    from schemathesis import APIOperation, Case

__all__ = ["AskedDocument"]

Kind = Literal["allowed", "forbidden"]


class AskedDocument:
    """A document, and the running service that must keep it. `headers` say who asks.

    Every answer is checked: no fault of the server, a documented status, the documented media
    type, headers and shape. Whether requests without a credential are refused is not asked here.
    """

    def __init__(self, document: dict[str, Any], url: str, headers: dict[str, str]) -> None:
        self._document = document
        self._url = url
        self._headers = headers

    def ask(self, route: str, **parts: Any) -> int:
        """Send one request (`query`, `path_parameters`, `body`); return the status."""
        if "body" in parts:
            parts["media_type"] = "application/json"
        return self._answered(self._operations[route].Case(**parts))

    def ask_many(self, route: str, kind: Kind, count: int) -> None:
        """Send so many requests, always the same ones while document and packages are the same."""
        from schemathesis import GenerationMode

        modes = {"allowed": GenerationMode.POSITIVE, "forbidden": GenerationMode.NEGATIVE}

        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=self._operations[route].as_strategy(generation_mode=modes[kind]))
        def answered(case: "Case") -> None:
            self._answered(case)

        answered()

    def _answered(self, case: "Case") -> int:
        from schemathesis import checks
        from schemathesis.specs.openapi import checks as of_documents

        answer = case.call(base_url=self._url, session=self._session, headers=self._headers)
        case.validate_response(
            answer,
            checks=[
                checks.not_a_server_error,
                of_documents.status_code_conformance,
                of_documents.content_type_conformance,
                of_documents.response_headers_conformance,
                of_documents.response_schema_conformance,
            ],
        )
        return answer.status_code

    @cached_property
    def _session(self) -> Any:
        import requests

        return requests.Session()

    @cached_property
    def _operations(self) -> "dict[str, APIOperation[Any, Any, Any, Any]]":
        with _assertions_as_they_are():
            import schemathesis
            import schemathesis.specs.openapi.checks
        schema = schemathesis.openapi.from_dict(_without_credentials(self._document))
        return {each.ok().label: each.ok() for each in schema.get_all_operations()}


def _without_credentials(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document for one who has a credential: none is made up for requests then."""
    paths = {
        path: {
            method: {name: value for name, value in operation.items() if name != "security"}
            for method, operation in operations.items()
        }
        for path, operations in document["paths"].items()
    }
    components = {**document["components"], "securitySchemes": {}}
    return {**document, "paths": paths, "components": components}


@contextmanager
def _assertions_as_they_are() -> Iterator[None]:
    finders = sys.meta_path[:]
    sys.meta_path[:] = [each for each in finders if "Rewriting" not in type(each).__name__]
    try:
        yield
    finally:
        sys.meta_path[:] = finders
