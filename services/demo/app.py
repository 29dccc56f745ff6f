"""Runs the demo: the gateway over the demo's upstream, its history, and what goes on now."""

import asyncio
import contextlib
import random
import signal
import sys
import time
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import uvicorn

from schemas.errors import ConfigError, TallygateError
from services.demo.company import Company
from services.demo.gateway import GatewayProcess, free_port
from services.demo.history import DAYS, Totals
from services.demo.people import key_plans
from services.demo.prompts import stored_prompts
from services.demo.publishing import publish_changes, publish_prompts, publish_usage
from services.demo.quota import Standings, last_standings
from services.demo.settings import config_text
from services.demo.story import Story, make_company, make_story
from services.demo.trickle import trickle
from services.demo.upstream import upstream_app
from services.runtime.bus import Bus
from services.runtime.folder import DataFolder, write_private
from services.runtime.listen import listen
from services.runtime.nats_server import running_nats_url

__all__ = ["STATE_FILE", "DemoOptions", "DemoState", "run_demo"]

READY_TIMEOUT_S = 120.0
"""The gateway may take so long to start."""
BOOKED_PER_S_MIN = 1000
"""So many requests of the history are booked in a second at least, or the demo gives up."""
PROMPTS_MAX = 300
"""Of so many of the newest requests the words are made up, too."""
STATE_FILE = "demo.json"
_PRODUCER = "demo-history"
_LOGIN_ALIAS = "emi-laptop"
_PLANS = {"ana.novak": ("Max 5x", 100), "diego.ramos": ("Max 5x", 100)}
_PLAN_OF_OTHERS = ("Pro", 20)


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the demo is to run. `port` 0 is any free one; `per_minute` 0: nothing goes on."""

    folder: Path
    port: int
    requests: int
    seed: int
    per_minute: int


class DemoState(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder's demo is, for programs that look at it: written to `demo.json` (0600)."""

    url: str
    master_key: str
    personal_key: str
    seed: int
    secrets: dict[str, str]
    standings: Standings
    totals: Totals


async def run_demo(options: DemoOptions) -> int:
    """Run until a signal; return the exit code. Raises TallygateError where that fails."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    work = asyncio.create_task(_run(options))
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if work.done():
        return await work
    _say("\nThe demo ends: running requests are finished first.")
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    return 0


async def _run(options: DemoOptions) -> int:
    began = time.monotonic()
    folder = options.folder
    known = _known_state(folder)
    if running_nats_url(folder / "data", "admin") is not None:
        raise ConfigError(f"a demo runs in {folder} already: end it first, or give another folder")
    data = DataFolder(folder / "data")
    seed = options.seed if known is None else known.seed
    company = make_company(seed, datetime.now(UTC))
    standings: Standings = {} if known is None else known.standings
    async with _upstream(standings) as upstream_url:
        write_private(folder / "config.yaml", config_text(upstream_url, _seats()).encode())
        gateway = GatewayProcess(folder, free_port(options.port), data.master_key())
        async with gateway.running():
            if known is None:
                known = await _first_time(options, gateway, company, data)
                standings.update(known.standings)
            state = msgspec.structs.replace(known, url=gateway.url)
            requests = state.totals.requests
            await gateway.wait_for(
                "SELECT count(*) FROM requests",
                lambda rows: rows >= requests,
                READY_TIMEOUT_S + requests / BOOKED_PER_S_MIN,
            )
            write_private(folder / STATE_FILE, msgspec.json.encode(state))
            _say(_banner(folder, state, time.monotonic() - began))
            await _go_on(options, gateway, company, state)
    return 0


async def _first_time(
    options: DemoOptions, gateway: GatewayProcess, company: Company, data: DataFolder
) -> DemoState:
    """Make the history and publish it; return what is then known of the demo."""
    now = datetime.now(UTC)
    story = await asyncio.to_thread(make_story, company, options.seed, options.requests, now)
    await gateway.wait_for("SELECT 1", lambda _: True, READY_TIMEOUT_S)
    await _publish(data.path, story, options.seed)
    return DemoState(
        url=gateway.url,
        master_key=data.master_key(),
        personal_key=company.secrets[_LOGIN_ALIAS],
        seed=options.seed,
        secrets=company.secrets,
        standings=last_standings(company.callers, story.history.records),
        totals=story.history.totals,
    )


async def _publish(data: Path, story: Story, seed: int) -> None:
    """Publish as the services do that write such events, each with its own user."""
    async with _bus(data, "admin") as bus:
        await publish_changes(bus, story.changes)
    newest = list(story.history.records)[-PROMPTS_MAX:]
    async with _bus(data, "proxy") as bus:
        await publish_usage(bus, story.history.entries, _PRODUCER)
        await publish_prompts(bus, stored_prompts(random.Random(seed), newest))


@contextlib.asynccontextmanager
async def _bus(data: Path, user: str) -> AsyncGenerator[Bus, None]:
    url = running_nats_url(data, user)
    if url is None:
        raise TallygateError("the demo's nats-server cannot be reached: start the demo again")
    bus = await Bus.connect(url, user)
    try:
        yield bus
    finally:
        await bus.close()


async def _go_on(
    options: DemoOptions, gateway: GatewayProcess, company: Company, state: DemoState
) -> None:
    """Let requests come in until this is cancelled, or the gateway ends."""
    async with asyncio.TaskGroup() as group:
        group.create_task(gateway.until_it_ends())
        if options.per_minute:
            rng = random.Random()
            callers = company.callers
            live = trickle(
                gateway.url, callers, state.secrets, per_minute=options.per_minute, rng=rng
            )
            group.create_task(live)


class _Server(uvicorn.Server):
    """A server beside other work: signals are not its business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Take none."""
        yield


@contextlib.asynccontextmanager
async def _upstream(standings: Standings) -> AsyncGenerator[str, None]:
    """Serve the stand-in for the API on a free port; yield its URL."""
    listening = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        upstream_app(standings), log_config=None, access_log=False, lifespan="off"
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        server.force_exit = True
        await serving


def _known_state(folder: Path) -> DemoState | None:
    """Return what the folder's demo is, None for a new one. Raises ConfigError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = (folder / STATE_FILE).read_bytes()
    except FileNotFoundError:
        if any(folder.iterdir()):
            raise ConfigError(
                f"the folder {folder} holds other things, or a demo that was not whole: give "
                "--folder one of its own, or empty it"
            ) from None
        return None
    except OSError as error:
        raise ConfigError(f"the folder {folder} cannot be used: {error.strerror}") from None
    try:
        return msgspec.json.decode(content, type=DemoState)
    except msgspec.MsgspecError:
        raise ConfigError(f"{folder / STATE_FILE} is damaged: empty the folder") from None


def _seats() -> dict[str, tuple[str, int]]:
    """Return the plan of everybody who works with a subscription."""
    users = {person.user_id: None for person, plan in key_plans() if plan.seat and plan.share}
    return {user: _PLANS.get(user, _PLAN_OF_OTHERS) for user in users}


def _banner(folder: Path, state: DemoState, ready_after_s: float) -> str:
    totals = state.totals
    history = (
        f"{totals.requests:,} requests in {DAYS} days, {totals.sessions:,} sessions, "
        f"${totals.cost_usd:,.2f}"
    )
    return "\n".join(
        (
            f"The demo is at {state.url} (ready after {ready_after_s:.1f} s)",
            f"  the history:     {history}",
            f"  the dashboard:   {state.url}/ui",
            f"  the master key:  {state.master_key}",
            f"  a personal key:  {state.personal_key} ({_LOGIN_ALIAS})",
            f"  the folder:      {folder}",
            "",
            "Nobody in it exists, and nothing goes to Anthropic. Ctrl-C ends it.",
            "",
        )
    )


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
