"""The routes about the configuration file: taking it anew, and who has which."""

from typing import Any

from litestar import Request, Response, get, post

from services.admin.bodies_config import ConfigStanding, ReloadConfig, Reloaded
from services.admin.describing import Description, described
from services.admin.guard import caller_of
from services.admin.reading import answer_json, read_body
from services.admin.state import AdminState

__all__ = ["CONFIG_ROUTES"]

_Request = Request[Any, Any, Any]


@post(
    "/config/reload",
    status_code=200,
    opt=described(
        Description(
            summary="Take the configuration file as it is now",
            description=(
                "Checks the file whole; where it has a problem, all of them are listed and nothing "
                "changes. Else every process takes it, for all requests that begin from then on. "
                "The answer names what changed, what waits for a restart, and who has taken it."
            ),
            tag="configuration",
            body=ReloadConfig,
            answer=Reloaded,
            example_body={
                "sha256": "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c"
            },
            errors=(409,),
        )
    ),
)
async def config_reload(request: _Request, admin: AdminState) -> Response[bytes]:
    """Have every process take the file."""
    body = await read_body(request, ReloadConfig)
    await admin.registry()
    return answer_json(await admin.reload.reload(caller_of(request).name, body.sha256))


@get(
    "/config/state",
    opt=described(
        Description(
            summary="Which process has which configuration",
            description=(
                "Asks every process of the gateway, wherever it runs, for the SHA-256 of the file "
                "that it has in force."
            ),
            tag="configuration",
            answer=ConfigStanding,
        ),
        access="read",
    ),
)
async def config_state(admin: AdminState) -> Response[bytes]:
    """Say how every process stands."""
    await admin.registry()
    return answer_json(await admin.reload.standing())


CONFIG_ROUTES = (config_reload, config_state)
