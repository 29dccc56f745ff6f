"""The life of one process: configuration in, signals, readiness, exit codes."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable

import msgspec
import uvloop

from schemas.config import GatewayConfig
from schemas.errors import ConfigError
from services.runtime.config_file import ConfigFile
from services.runtime.folder import DataFolder
from services.runtime.logs import configure_logging
from services.runtime.metrics import Metrics
from services.runtime.metrics_server import MetricsServer

__all__ = [
    "EXIT_CONFIG",
    "EXIT_FAULT",
    "ServiceContext",
    "notify_log_level",
    "notify_ready",
    "run_service",
]

log = logging.getLogger(__name__)

EXIT_FAULT = 1
EXIT_CONFIG = 78
"""sysexits' EX_CONFIG: starting again will not help."""


class ServiceContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a service is given: its configuration, its folder, and when to stop.

    `part` names the process (`proxy-0`, `ledger-writer`); `stop` is set by SIGTERM or SIGINT,
    `hangup` by each SIGHUP. A configuration that is taken at run time replaces `config`. `metrics`
    takes what the service has to tell.
    """

    part: str
    file: ConfigFile
    folder: DataFolder
    nats_url: str
    stop: asyncio.Event
    hangup: asyncio.Event
    metrics: Metrics = msgspec.field(default_factory=Metrics)

    @property
    def config(self) -> GatewayConfig:
        """The configuration in force."""
        return self.file.config

    @property
    def master_key(self) -> str:
        """The master key in force: the configuration's, else that of the data folder."""
        return self.config.master_key or self.folder.master_key()


def notify_ready(part: str) -> None:
    """Tell the supervisor (or systemd) that this process is ready, if one listens.

    The protocol is systemd's: a datagram to the socket that NOTIFY_SOCKET names.
    """
    log.info("ready")
    _notify(f"READY=1\nX_TALLYGATE_PART={part}")


def notify_log_level(level: str) -> None:
    """Tell the supervisor, if one listens, from which level on lines are wanted."""
    _notify(f"X_TALLYGATE_LOG_LEVEL={level}")


def _notify(message: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
        contextlib.suppress(OSError),
    ):
        notify.sendto(message.encode(), address)


def run_service(
    main: Callable[[ServiceContext], Awaitable[None]],
    *,
    part: str,
    file: ConfigFile,
    folder: DataFolder,
    nats_url: str,
    metrics_address: tuple[str, int] | None = None,
) -> int:
    """Run a service until it is told to stop; return the exit code of the process.

    Its metrics are served in the data folder, and at `metrics_address`, where one is given.
    """
    configure_logging(part, file.config.settings.log_level)

    async def live() -> None:
        stop, hangup = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)

        def on_hangup() -> None:
            log.info("SIGHUP: the admin service reloads the configuration at it, others follow")
            hangup.set()

        loop.add_signal_handler(signal.SIGHUP, on_hangup)
        context = ServiceContext(
            part=part, file=file, folder=folder, nats_url=nats_url, stop=stop, hangup=hangup
        )
        metrics = MetricsServer(context.metrics, part, folder.metrics, metrics_address)
        async with metrics.running():
            await main(context)

    try:
        uvloop.run(live())
    except ConfigError as error:
        log.error("cannot start: %s", error)
        return EXIT_CONFIG
    except Exception:
        log.exception("ended by a fault")
        return EXIT_FAULT
    log.info("stopped")
    return 0
