"""The admin service: wiring, and nothing else."""

import logging
import socket

from litestar import Litestar
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp

from schemas.config import GatewayConfig
from schemas.errors import ApiError
from services.admin.errors import answer_error
from services.admin.guard import require_access
from services.admin.limits import RequestCounts, limited
from services.admin.openapi import OpenApi
from services.admin.reading import BODY_BYTES_MAX
from services.admin.routes_activity import ACTIVITY_ROUTES
from services.admin.routes_alerts import ALERT_ROUTES
from services.admin.routes_audit import AUDIT_ROUTES
from services.admin.routes_bulk import BULK_ROUTES
from services.admin.routes_calculate import CALCULATE_ROUTES
from services.admin.routes_config import CONFIG_ROUTES
from services.admin.routes_global import GLOBAL_ROUTES
from services.admin.routes_global_activity import GLOBAL_ACTIVITY_ROUTES
from services.admin.routes_guardrails import GUARDRAIL_ROUTES
from services.admin.routes_keys import KEY_ROUTES
from services.admin.routes_members import MEMBER_ROUTES
from services.admin.routes_models import MODEL_ROUTES
from services.admin.routes_pages import PAGE_ROUTES
from services.admin.routes_prices import PRICE_ROUTES
from services.admin.routes_prompts import PROMPT_ROUTES
from services.admin.routes_regenerate import REGENERATE_ROUTES
from services.admin.routes_reports import REPORT_ROUTES
from services.admin.routes_reprice import REPRICE_ROUTES
from services.admin.routes_reset import RESET_ROUTES
from services.admin.routes_spend import SPEND_ROUTES
from services.admin.routes_teams import TEAM_ROUTES
from services.admin.routes_users import USER_ROUTES
from services.admin.state import AdminState
from services.admin.ui.app import ui_router
from services.admin.ui.sessions import Sessions
from services.runtime.bus import Bus
from services.runtime.config_follower import ConfigFollower
from services.runtime.http_server import serve_http
from services.runtime.listen import listen
from services.runtime.registry import RegistrySnapshot, follow_registry
from services.runtime.service import ServiceContext, notify_ready
from services.runtime.tasks import end_tasks, spawn

__all__ = ["ROUTES", "application", "run"]

log = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 3.0
"""Requests that still run so long after the stop are cut: none of them takes longer to store."""
ROUTES = (
    *KEY_ROUTES,
    *BULK_ROUTES,
    *REGENERATE_ROUTES,
    *RESET_ROUTES,
    *TEAM_ROUTES,
    *MEMBER_ROUTES,
    *USER_ROUTES,
    *SPEND_ROUTES,
    *REPORT_ROUTES,
    *GLOBAL_ROUTES,
    *GLOBAL_ACTIVITY_ROUTES,
    *ACTIVITY_ROUTES,
    *CALCULATE_ROUTES,
    *AUDIT_ROUTES,
    *MODEL_ROUTES,
    *PRICE_ROUTES,
    *REPRICE_ROUTES,
    *PROMPT_ROUTES,
    *CONFIG_ROUTES,
    *ALERT_ROUTES,
    *GUARDRAIL_ROUTES,
    *PAGE_ROUTES,
)


def application(state: AdminState) -> Litestar:
    """Return the application for a state: every route behind the guard, one error shape."""
    api = OpenApi(ROUTES)
    app = Litestar(
        route_handlers=[*ROUTES, ui_router()],
        guards=[require_access],
        dependencies={
            "admin": Provide(lambda: state, sync_to_thread=False),
            "api": Provide(lambda: api, sync_to_thread=False),
        },
        exception_handlers={
            ApiError: answer_error,
            HTTPException: answer_error,
            Exception: answer_error,
        },
        request_max_body_size=BODY_BYTES_MAX,
        openapi_config=None,
        logging_config=None,
        include_in_schema=False,
    )
    app.state.admin = state
    app.state.sessions = Sessions()
    return app


async def run(context: ServiceContext, *, fd: int | None, host: str, port: int) -> None:
    """Serve the management API until `context.stop` is set.

    `fd` is a listening socket that was inherited; without one, `host` and `port` are bound
    (ConfigError where that fails). NATS may come up later: until then requests that need it get
    a 503 that says so.
    """
    listener = listen(host, port) if fd is None else socket.socket(fileno=fd)
    listener.setblocking(False)
    bus = await Bus.connect(context.nats_url, "admin", wait=False)
    snapshot = RegistrySnapshot()
    state = AdminState(
        bus=bus,
        snapshot=snapshot,
        file=context.file,
        master_key=context.master_key,
        config=context.config,
        folder=context.folder.path,
    )

    async def take(config: GatewayConfig) -> None:
        state.take(context.master_key, config)

    follower = ConfigFollower(context, snapshot, take)

    def on_progress() -> None:
        state.writer.progressed()
        follower.progressed()

    faults: list[str] = []

    def on_fault() -> None:
        faults.append("a part of the admin service has ended; its log says why")
        context.stop.set()

    tasks = [
        spawn(follow_registry(bus, snapshot, on_progress=on_progress), "follow registry", on_fault),
        spawn(follower.run(bus), "configuration", on_fault),
        spawn(state.reload.on_hangup(context.hangup), "SIGHUP", on_fault),
    ]
    tasks.append(spawn(state.alerts.run(), "alerts", on_fault))
    counts = RequestCounts()
    context.metrics.put("admin", counts.metrics)
    context.metrics.put("nats", bus.metrics)
    context.metrics.put("alerts", state.alerts.metrics)
    app: ASGIApp = limited(application(state), counts)
    try:
        await serve_http(
            app,
            listener=listener,
            stop=context.stop,
            drain_timeout_s=DRAIN_TIMEOUT_S,
            on_started=lambda: notify_ready(context.part),
        )
    finally:
        await end_tasks(*tasks)
        await bus.close()
    if faults:
        raise RuntimeError(faults[0])
