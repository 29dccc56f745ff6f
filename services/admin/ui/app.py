"""The pages under /ui: wiring, and nothing else."""

from litestar import Router, get
from litestar.exceptions import HTTPException

from schemas.errors import ApiError, NotFound
from services.admin.ui.access import require_session
from services.admin.ui.access_pages import ACCESS_PAGE_ROUTES
from services.admin.ui.assets import ASSET_ROUTES
from services.admin.ui.audit import AUDIT_PAGE_ROUTES
from services.admin.ui.budgets import BUDGET_PAGE_ROUTES
from services.admin.ui.coding_sessions import SESSIONS_ROUTES
from services.admin.ui.guardrails import GUARDRAIL_PAGE_ROUTES
from services.admin.ui.health import HEALTH_PAGE_ROUTES
from services.admin.ui.login import LOGIN_ROUTES
from services.admin.ui.logs import LOG_ROUTES
from services.admin.ui.overview import OVERVIEW_ROUTES
from services.admin.ui.pages import answer_ui_error
from services.admin.ui.quotas import QUOTA_PAGE_ROUTES
from services.admin.ui.request_page import REQUEST_ROUTES
from services.admin.ui.session_page import SESSION_PAGE_ROUTES
from services.admin.ui.sql_page import SQL_ROUTES
from services.admin.ui.usage import USAGE_ROUTES

__all__ = ["UI_ROUTES", "ui_router"]


@get("/{rest:path}")
async def nowhere(rest: str) -> None:  # noqa: ARG001 - the path has it
    """Answer for an address that is no page."""
    raise NotFound("There is no such page.")


UI_ROUTES = (
    *LOGIN_ROUTES,
    *OVERVIEW_ROUTES,
    *LOG_ROUTES,
    *REQUEST_ROUTES,
    *SESSIONS_ROUTES,
    *SESSION_PAGE_ROUTES,
    *USAGE_ROUTES,
    *ACCESS_PAGE_ROUTES,
    *BUDGET_PAGE_ROUTES,
    *QUOTA_PAGE_ROUTES,
    *GUARDRAIL_PAGE_ROUTES,
    *AUDIT_PAGE_ROUTES,
    *HEALTH_PAGE_ROUTES,
    *SQL_ROUTES,
    *ASSET_ROUTES,
    nowhere,
)


def ui_router() -> Router:
    """Return the router of all pages, each behind a session."""
    return Router(
        path="/ui",
        route_handlers=list(UI_ROUTES),
        guards=[require_session],
        exception_handlers={
            ApiError: answer_ui_error,
            HTTPException: answer_ui_error,
            Exception: answer_ui_error,
        },
        opt={"access": "public"},
        include_in_schema=False,
    )
