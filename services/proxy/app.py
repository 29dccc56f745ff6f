"""The proxy's composition root: makes the parts, wires them, runs until told to stop."""

import asyncio
import gc
import logging
import socket
import time
from pathlib import Path
from typing import Any

from litestar import HttpMethod, Litestar, Request, Response, asgi, route
from litestar.exceptions import HTTPException
from litestar.response import Redirect
from litestar.types import ASGIApp

from schemas.config import GatewayConfig
from schemas.errors import ApiError, BadRequest, InternalError
from services.proxy.admission import Admission
from services.proxy.api import Api
from services.proxy.budgets import SpentBudgets
from services.proxy.draft import new_request_id, now_us
from services.proxy.guarding import Guarding
from services.proxy.health import Health
from services.proxy.keeper import SetupKeeper
from services.proxy.management import Management
from services.proxy.marks import MarkBook
from services.proxy.messages import HOT_PATHS, Messages
from services.proxy.outbox import Outbox
from services.proxy.paths import is_api_path
from services.proxy.pool import PoolSettings, UpstreamPool
from services.proxy.prompts import Prompts
from services.proxy.rate_sharing import Sharing, share_for_ever
from services.proxy.rates import Rates
from services.proxy.refusals import Refusals
from services.proxy.reservations import Reservations
from services.proxy.seats import SpentSeats
from services.proxy.tls import tls_context
from services.proxy.warm import keep_warm
from services.proxy.worker_metrics import worker_metrics
from services.runtime.bus import Bus
from services.runtime.config_follower import ConfigFollower
from services.runtime.guardrail_scanners import warm_scanners
from services.runtime.http_server import serve_http
from services.runtime.listen import listen
from services.runtime.registry import RegistrySnapshot, follow_registry
from services.runtime.service import ServiceContext, notify_ready
from services.runtime.tasks import end_tasks, spawn

__all__ = ["build_app", "run"]

PROBE_METHODS = [HttpMethod.GET, HttpMethod.HEAD]
"""What asks whether the gateway is there: Claude Code and load balancers take HEAD, too."""

log = logging.getLogger(__name__)

GC_ALLOCATIONS = 20_000
"""So many more objects than before must be there until the youngest ones are looked through."""
FLUSH_TIMEOUT_S = 10.0
"""How long a stopping proxy waits for its events to be published; the rest is kept on disk."""


def build_app(
    *, messages: Messages, api: Api, management: Management, registry: RegistrySnapshot
) -> ASGIApp:
    """Return the ASGI application."""

    @route(["/", "/api/hello"], http_method=PROBE_METHODS, sync_to_thread=False)
    def hello(request: Request[Any, Any, Any]) -> Response[Any]:
        if "text/html" in request.headers.get("accept", ""):
            # A person with a browser wants the dashboard; programs probe.
            return Redirect("/ui", status_code=303)
        return Response({"message": "hello", "service": "tallygate"})

    @route(
        ["/health/liveliness", "/health/liveness"],
        http_method=PROBE_METHODS,
        sync_to_thread=False,
    )
    def liveness() -> str:
        return "I'm alive!"

    @route("/health/readiness", http_method=PROBE_METHODS, sync_to_thread=False)
    def readiness() -> Response[dict[str, str]]:
        if registry.loaded:
            return Response({"status": "healthy"})
        return Response({"status": "starting", "waiting_for": "keys from NATS"}, status_code=503)

    @asgi("/", is_mount=True, copy_scope=False)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await management(scope, receive, send)

    litestar = Litestar(
        [hello, liveness, readiness, mounted],
        exception_handlers={
            ApiError: _answer_error,
            HTTPException: _answer_http_exception,
            Exception: _answer_fault,
        },
        openapi_config=None,
        logging_config=None,
    )

    async def application(scope: Any, receive: Any, send: Any) -> None:
        # The hot path needs nothing of a framework, which would cost a tenth of all a request does.
        raw_path = scope["raw_path"]
        if raw_path in HOT_PATHS:
            await messages(scope, receive, send)
        elif is_api_path(raw_path):
            await api(scope, receive, send)
        else:
            await litestar(scope, receive, send)

    return application


def _answer_error(_: Request[Any, Any, Any], error: ApiError) -> Response[bytes]:
    request_id = new_request_id(now_us())
    return Response(
        error.body(request_id),
        status_code=error.http_status,
        headers={**error.headers, "request-id": request_id},
        media_type="application/json",
    )


def _answer_http_exception(
    request: Request[Any, Any, Any], exception: HTTPException
) -> Response[bytes]:
    error = BadRequest(exception.detail)
    error.http_status = exception.status_code
    return _answer_error(request, error)


def _answer_fault(request: Request[Any, Any, Any], fault: Exception) -> Response[bytes]:
    log.error("a request failed inside the gateway", exc_info=fault)
    return _answer_error(request, InternalError("The gateway failed; its log says how"))


async def run(
    context: ServiceContext,
    *,
    fd: int | None,
    host: str,
    port: int,
    worker: int,
    admin_url: str | None,
) -> None:
    """Run one worker until `context.stop` is set.

    `fd` is a listening socket inherited from the supervisor; without one `host:port` is listened
    on. Raises ConfigError for a configuration or an address that cannot be used.
    """
    settings = context.config.settings
    folder = context.folder.proxy(worker)
    listener = socket.socket(fileno=fd) if fd is not None else listen(host, port)
    registry, cache = _load_registry(folder)

    def alias_of(model_name: str | None) -> str | None:
        return keeper.setup.router.alias_of(model_name)

    budgets, marks = SpentBudgets(alias_of), MarkBook(alias_of)
    outbox = Outbox(
        folder,
        bytes_max=settings.outbox_bytes_max,
        refuse_when_full=settings.outbox_full == "refuse",
        now_us=now_us,
    )
    reservations = Reservations(marks)
    outbox.on_published = reservations.published
    transport = UpstreamPool(
        PoolSettings.from_settings(settings),
        tls=tls_context(settings.upstream_ca_file) if _needs_tls(context.config) else None,
    )
    health = Health(time.monotonic)
    keeper = SetupKeeper(
        context.config,
        context.master_key,
        registry=registry,
        pool=transport,
        health=health,
    )
    rates = Rates(registry, time.monotonic, lambda: keeper.setup.settings.rate_limit_tokens)
    await asyncio.to_thread(warm_scanners, context.config.guardrails)
    guarding = Guarding(outbox.guardrail_triggered)
    admission = Admission(
        guarding=guarding,
        current=keeper,
        registry=registry,
        budgets=budgets,
        check_room=outbox.check_room,
        health=health,
        seats=SpentSeats(now_us),
        rates=rates,
        reservations=reservations,
    )
    management = Management(admin_url, lambda: keeper.setup.master_key_hash)
    refusals = Refusals(outbox)
    prompts = Prompts()
    messages = Messages(
        admission=admission,
        outbox=outbox,
        transport=transport,
        refusals=refusals,
        prompts=prompts,
        guarding=guarding,
    )
    api = Api(admission=admission, outbox=outbox, transport=transport, refusals=refusals)
    app = build_app(messages=messages, api=api, management=management, registry=registry)
    bus = await Bus.connect(context.nats_url, "proxy", wait=False)
    context.metrics.put(
        "proxy",
        worker_metrics(outbox, transport, registry, prompts, rates, admission.seats, reservations),
    )
    context.metrics.put("nats", bus.metrics)
    stop = context.stop
    ready = _Readiness(context.part, registry)
    _spare_the_collector()

    async def take(config: GatewayConfig) -> None:
        await asyncio.to_thread(warm_scanners, config.guardrails)
        keeper.take(config, context.master_key)
        outbox.configure(
            bytes_max=config.settings.outbox_bytes_max,
            refuse_when_full=config.settings.outbox_full == "refuse",
        )

    follower = ConfigFollower(context, registry, take, unusable_models=keeper.unusable_ids)

    def on_progress() -> None:
        keeper.progressed()
        follower.progressed()
        ready.update()

    tasks = [
        spawn(
            follow_registry(bus, registry, cache=cache, on_progress=on_progress),
            "registry",
            stop.set,
        ),
        spawn(budgets.follow(bus), "budgets", stop.set),
        spawn(marks.follow(bus), "marks", stop.set),
        spawn(share_for_ever(Sharing(rates), rates, bus), "rates", stop.set),
        spawn(follower.run(bus), "configuration", stop.set),
        spawn(outbox.publish_for_ever(bus), "outbox", stop.set),
        spawn(keep_warm(transport), "warm", stop.set),
        spawn(prompts.publish_for_ever(bus), "prompts", stop.set),
    ]
    try:
        await serve_http(
            app,
            listener=listener,
            stop=stop,
            drain_timeout_s=settings.drain_timeout_s,
            on_started=ready.started,
        )
        if not await outbox.flush(FLUSH_TIMEOUT_S):
            log.warning("%d bytes of events stay in the outbox", outbox.bytes_waiting)
        await prompts.flush(FLUSH_TIMEOUT_S)
    finally:
        await end_tasks(*tasks)
        await _close(transport, guarding, management)
        await bus.close()
        outbox.close()


async def _close(*parts: UpstreamPool | Guarding | Management) -> None:
    """Close the connections of some parts."""
    for part in parts:
        await part.aclose()


def _spare_the_collector() -> None:
    """Let Python's collector of cycles pass over what was made at start, and look less often.

    At its defaults it takes 4 % of what a request costs and finds nothing: none leaves a cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, *gc.get_threshold()[1:])


def _needs_tls(config: GatewayConfig) -> bool:
    """Tell whether any deployment is reached over TLS (its roots take a moment to load)."""
    return any(each.api_base.startswith("https:") for each in config.deployments)


def _load_registry(folder: Path) -> tuple[RegistrySnapshot, Path]:
    registry = RegistrySnapshot()
    cache = folder / "registry.json"
    if registry.load(cache):
        log.info("%d keys known from the copy on disk", len(registry.keys))
    return registry, cache


class _Readiness:
    """Says once that the worker is ready: it listens, and it knows its keys."""

    def __init__(self, part: str, registry: RegistrySnapshot) -> None:
        self._part = part
        self._registry = registry
        self._is_listening = False
        self._is_told = False

    def started(self) -> None:
        """The server accepts connections."""
        self._is_listening = True
        self.update()

    def update(self) -> None:
        """Something changed: look again."""
        if self._is_listening and self._registry.loaded and not self._is_told:
            self._is_told = True
            notify_ready(self._part)
