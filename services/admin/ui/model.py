"""One model name: its deployments, who asks for it, and what that costs."""

from typing import Any

from litestar import Request, Response, get

from schemas.errors import ApiError, NotFound
from services.admin.state import AdminState
from services.admin.ui.access import viewer_of
from services.admin.ui.addresses import id_in
from services.admin.ui.asking import Row, ask
from services.admin.ui.figures import figures_of
from services.admin.ui.models import Deployed, deployments_seen, recent_of
from services.admin.ui.pages import page
from services.admin.ui.viewer import Viewer

__all__ = ["MODEL_PAGE_ROUTES"]

_Request = Request[Any, Any, Any]


@get("/models/{part:str}")
async def model_page(request: _Request, admin: AdminState, part: str) -> Response[bytes]:
    """Show one model name."""
    viewer, name = viewer_of(request), id_in(part)
    deployments = [each for each in await deployments_seen(request) if each.model_name == name]
    figures = await figures_of(
        admin,
        viewer,
        "model",
        name,
        chart_by="user",
        tops=[("Keys", "key"), ("Users", "user")],
    )
    if not deployments and not figures.requests and not figures.problem:
        raise NotFound("There is no model of this name that you may use.")
    prices = await _complete(admin, viewer, deployments)
    aliases = admin.config.router.model_group_alias
    hidden = admin.config.router.hidden_aliases
    return page(
        request,
        "model.html",
        name=name,
        deployments=deployments,
        aliases=[each for each, of in aliases.items() if of == name and each not in hidden],
        prices=prices,
        figures=figures,
    )


async def _complete(admin: AdminState, viewer: Viewer, deployments: list[Deployed]) -> list[Row]:
    """Tell of each deployment how it did; return the prices of what they ask for.

    Of what the ledger cannot say there is nothing; the figures say why.
    """
    models = sorted({each.model for each in deployments})
    try:
        recent = {row["deployment"]: row for row in await recent_of(admin, viewer)}
        for each in deployments:
            each.recent = recent.get(each.id)
        if not viewer.sees_all:
            return []
        return await ask(
            admin,
            "SELECT * FROM prices WHERE list_has_any(names, $1::VARCHAR[]) "
            "ORDER BY model, valid_from DESC NULLS LAST, above_prompt_tokens LIMIT 200",
            [models],
        )
    except ApiError:
        return []


MODEL_PAGE_ROUTES = (model_page,)
