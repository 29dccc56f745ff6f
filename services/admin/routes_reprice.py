"""The route that computes costs anew."""

from typing import Any

from litestar import Request, Response, post

from services.admin.bodies_reprice import GivenReprice, Reprice, Repriced
from services.admin.describing import Description, described
from services.admin.guard import caller_of
from services.admin.reading import answer_json, read_body
from services.admin.state import AdminState

__all__ = ["REPRICE_ROUTES"]


@post(
    "/reprice",
    status_code=200,
    opt=described(
        Description(
            summary="Compute costs anew",
            description=(
                "Says what requests would cost by the prices in force, or by those given, day by "
                "day, key by key, model by model. With `apply` they cost that from then on: an "
                "event of the stream, which every copy of the books follows, and budgets with it."
            ),
            tag="prices",
            body=Reprice,
            answer=Repriced,
            example_body={
                "from": "2026-11-01",
                "to": "2026-12-01",
                "models": ["claude-opus-5"],
                "prices": [{"model": "claude-opus-5", "multiplier": "0.9"}],
                "reason": "the discount of November came late",
                "apply": True,
            },
            errors=(408, 409),
        )
    ),
)
async def reprice(request: Request[Any, Any, Any], admin: AdminState) -> Response[bytes]:
    """Reprice, or say what that would change."""
    body = await read_body(request, GivenReprice)
    return answer_json(await admin.repricings.reprice(body, caller_of(request).name))


REPRICE_ROUTES = (reprice,)
