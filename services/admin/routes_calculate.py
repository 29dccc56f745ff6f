"""POST /spend/calculate: what a request cost, or would cost, by the prices in force."""

from typing import Any

from litestar import Request, Response, post

from schemas.errors import BadRequest
from schemas.money import usd_from_picos
from services.admin.bodies_activity import CalculatedSpend, CalculateSpend, CostParts
from services.admin.describing import Description, described
from services.admin.given_usage import BYTES_PER_TOKEN, likely_prompt, usage_from
from services.admin.models import deployed_model
from services.admin.money import plain_number
from services.admin.reading import answer_json, read_body
from services.admin.state import AdminState, now_us
from services.runtime.pricing import cost_picos

__all__ = ["CALCULATE_ROUTES"]

_Request = Request[Any, Any, Any]
_BASIS = (
    f"the prompt alone, a token for {BYTES_PER_TOKEN} bytes of the messages as JSON; for an exact "
    "cost send the usage of an answer as completion_response"
)


@post(
    "/spend/calculate",
    status_code=200,
    opt=described(
        Description(
            summary="Compute what a request costs",
            description=(
                "By the prices in force now, and by the rules by which the ledger books requests. "
                "Exact for `completion_response` with its `usage`; for `messages` it is an "
                "estimate of the prompt's cost. Nothing is sent to the model or booked."
            ),
            tag="spend",
            body=CalculateSpend,
            answer=CalculatedSpend,
            example_body={
                "completion_response": {
                    "model": "claude-opus-4-5",
                    "usage": {
                        "input_tokens": 2,
                        "cache_read_input_tokens": 25142,
                        "output_tokens": 333,
                    },
                }
            },
            errors=(400,),
        ),
        access="own",
    ),
)
async def calculate_spend(request: _Request, admin: AdminState) -> Response[bytes]:
    """Compute what a request costs."""
    body = await read_body(request, CalculateSpend)
    answer = body.completion_response
    if (answer is None) == (body.messages is None):
        raise BadRequest(
            "send either completion_response, with its usage, or messages",
            param="completion_response",
        )
    given = body.model
    if answer is not None:
        usage = usage_from(answer.get("usage"))
        named = answer.get("model")
        given = named if isinstance(named, str) and named else given
    else:
        usage = likely_prompt(body.messages or ())
    if given is None:
        raise BadRequest("model must say by which model's prices", param="model")
    snapshot = await admin.registry()
    book = await admin.price_view.book()
    model = given
    if book.canonical_name(model) is None:
        model = deployed_model(admin.config, snapshot.live_models(), model) or model
    priced = cost_picos(book, usage, model, now_us())
    if priced.cost is None:
        raise BadRequest(
            f"there is no price for it ({priced.unpriced}): GET /prices lists all, and "
            "POST /price/update sets one",
            param="model",
        )
    cost = priced.cost
    return answer_json(
        CalculatedSpend(
            cost=plain_number(usd_from_picos(cost.total)),
            model=book.canonical_name(model) or model,
            components=CostParts(
                **{
                    name: plain_number(usd_from_picos(picos))
                    for name, picos in cost._asdict().items()
                }
            ),
            estimated=answer is None,
            estimate_basis=_BASIS if answer is None else None,
        )
    )


CALCULATE_ROUTES = (calculate_spend,)
