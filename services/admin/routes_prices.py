"""The routes about prices: what is in force, and entries that are set at run time."""

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post

from services.admin.bodies_prices import GivenPrices, PricesInForce, PricesSet, SetPrices
from services.admin.describing import Description, described
from services.admin.guard import caller_of
from services.admin.reading import answer_json, read_body, read_query
from services.admin.state import AdminState

__all__ = ["PRICE_ROUTES"]

_Request = Request[Any, Any, Any]


class PricesQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which prices are asked for."""

    model: Annotated[str, msgspec.Meta(max_length=200)] | None = None


@get(
    "/prices",
    opt=described(
        Description(
            summary="What every model costs",
            description=(
                "The prices in force: the price book with all that differs from it, the entries "
                "set through this API, and every change with who made it and when."
            ),
            tag="prices",
            query=PricesQuery,
            answer=PricesInForce,
            example_query="model=claude-opus-5",
            errors=(408,),
        ),
        access="read",
    ),
)
async def prices(request: _Request, admin: AdminState) -> Response[bytes]:
    """Say what is in force."""
    query = read_query(request, PricesQuery)
    return answer_json(await admin.prices.in_force(query.model))


@post(
    "/price/update",
    status_code=200,
    opt=described(
        Description(
            summary="Set prices that differ from the price book",
            description=(
                "Takes all entries that are to be in force through this API; those that were set "
                "before and are not among them end. They go before those of the configuration "
                "file and hold for requests that end from now on."
            ),
            tag="prices",
            body=SetPrices,
            answer=PricesSet,
            example_body={
                "prices": [
                    {
                        "model": "claude-opus-5",
                        "valid_from": "2026-12-01",
                        "usd_per_mtok": {"input": "4.25", "output": "21.25"},
                        "source": "contract of November",
                    },
                    {"model": "*", "multiplier": "0.95"},
                ],
                "sequence": 0,
            },
            errors=(409,),
        )
    ),
)
async def price_update(request: _Request, admin: AdminState) -> Response[bytes]:
    """Set the API's entries."""
    body = await read_body(request, GivenPrices)
    done = await admin.prices.set(body.prices, body.sequence, caller_of(request).name)
    return answer_json(done)


PRICE_ROUTES = (prices, price_update)
