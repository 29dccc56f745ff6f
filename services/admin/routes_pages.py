"""The routes that ask for no key: health, the OpenAPI document and the page made from it."""

from typing import Any

from litestar import Request, Response, get

from services.admin.bodies import Readiness
from services.admin.describing import Description, described
from services.admin.docs_page import DOCS_HEADERS
from services.admin.errors import JSON
from services.admin.openapi import OpenApi
from services.admin.reading import answer_json
from services.admin.state import AdminState

__all__ = ["PAGE_ROUTES"]

_Request = Request[Any, Any, Any]


@get(
    ["/health/liveliness", "/health/liveness"],
    opt=described(
        Description(
            summary="Is the process alive?",
            description="Always 200 while the admin service runs (LiteLLM has both spellings).",
            tag="health",
            answer=str,
        ),
        access="public",
    ),
)
async def liveliness() -> Response[bytes]:
    """Say that the process is alive."""
    return answer_json("I'm alive!")


@get(
    "/health/readiness",
    opt=described(
        Description(
            summary="Can the admin service do its work?",
            description="200 when it is connected to NATS and has read the registry, else 503.",
            tag="health",
            answer=Readiness,
        ),
        access="public",
    ),
)
async def readiness(admin: AdminState) -> Response[bytes]:
    """Say whether the registry can be read and written."""
    connected, loaded = admin.bus.is_connected, admin.snapshot.loaded
    ready = connected and loaded
    answer = Readiness(
        status="healthy" if ready else "unhealthy",
        nats="connected" if connected else "disconnected",
        registry="loaded" if loaded else "loading",
    )
    return answer_json(answer, status=200 if ready else 503)


@get(
    "/openapi.json",
    opt=described(
        Description(
            summary="The OpenAPI document",
            description="OpenAPI 3.1, made from the routes themselves.",
            tag="documents",
            answer=dict[str, Any],
        ),
        access="public",
    ),
)
async def openapi_json(request: _Request, api: OpenApi) -> Response[bytes]:
    """Return the OpenAPI document."""
    return api.json.answer(request, JSON, {})


@get(
    "/docs",
    opt=described(
        Description(
            summary="This API as a page",
            description="A page without scripts and without anything from other hosts.",
            tag="documents",
            answer=None,
        ),
        access="public",
    ),
)
async def docs(request: _Request, api: OpenApi) -> Response[bytes]:
    """Return the page that describes every route."""
    return api.page.answer(request, "text/html", DOCS_HEADERS)


PAGE_ROUTES = (liveliness, readiness, openapi_json, docs)
