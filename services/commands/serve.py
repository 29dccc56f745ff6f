"""`tallygate serve`: the whole gateway on one machine."""

import argparse
import asyncio
import os
import socket
import sys
import time
from pathlib import Path

import msgspec

from schemas.config import GatewayConfig
from services.commands.addresses import checked_metrics_address, checked_nats_url
from services.commands.arguments import config_path
from services.commands.banner import banner, base_url
from services.runtime.child import ChildGivenUp, ChildSpec
from services.runtime.config_file import ConfigFile
from services.runtime.folder import DataFolder, write_private
from services.runtime.folder_lock import lock_folder
from services.runtime.listen import address_of, listen
from services.runtime.log_sink import LogSink
from services.runtime.metrics_server import remove_sockets
from services.runtime.nats_server import EmbeddedNats
from services.runtime.supervisor import Supervisor

__all__ = ["Installation", "child_specs", "serve"]

OUTBOX_FLUSH_S = 15.0
"""After its streams have ended a proxy gets so much longer to flush its outbox and to exit."""
LEDGER_STOP_S = 30.0
"""The ledger gets so long to take in what the streams hold."""
ADMIN_STOP_S = 5.0
NATS_STOP_S = 10.0
EXIT_FAULT = 1
EXIT_CONFIG = 78


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """All that the children's command lines are made of.

    `program` runs the command line itself; `nats` is None where an external server is used.
    """

    program: tuple[str, ...]
    config: GatewayConfig
    folder: DataFolder
    listening: socket.socket
    admin_listening: socket.socket
    lock: int
    nats: EmbeddedNats | None
    workers: int
    environment: dict[str, str]
    metrics: str | None = None

    @property
    def quack(self) -> bool:
        """Whether the books are served over DuckDB's own protocol."""
        return self.config.settings.quack_port != 0


def serve(values: argparse.Namespace) -> int:
    """Run until a signal, or until a child is given up; return the exit code.

    Raises ConfigError where it cannot start.
    """
    began = time.monotonic()
    path = config_path(values.config).absolute()
    file = ConfigFile(path, os.environ)
    checked_metrics_address(values.metrics)
    config = file.config
    folder = DataFolder(values.data)
    lock = lock_folder(folder)
    remove_sockets(folder.metrics)
    write_private(folder.accepted_config, file.content)
    if config.master_key is None:
        folder.master_key()
    external = os.environ.get("TALLYGATE_NATS_URL") or config.settings.nats_url
    if external:
        checked_nats_url(external)
    installation = Installation(
        program=_program(),
        config=config,
        folder=folder,
        listening=listen(values.host, values.port),
        admin_listening=listen("127.0.0.1", 0),
        lock=lock,
        nats=None if external else EmbeddedNats(folder),
        workers=values.workers,
        environment={k: v for k, v in os.environ.items() if k != "TALLYGATE_METRICS"},
        metrics=values.metrics,
    )
    host, port = address_of(installation.listening)
    url = base_url(values.host, port)
    sink = LogSink(sys.stderr, config.settings.log_level)
    for notice in config.notices:
        sink.say("warning", notice)

    def on_ready() -> None:
        ready_after_s = time.monotonic() - began
        sink.say("info", f"ready on {host}, port {port}", ready_after_s=round(ready_after_s, 3))
        if "NOTIFY_SOCKET" in os.environ:
            # Whoever started this process (systemd) is told, too.
            from services.runtime.service import notify_ready

            notify_ready("serve")
        _print(banner(config, folder, url, environment=os.environ, ready_after_s=ready_after_s))

    async def run() -> int:
        supervisor = Supervisor(
            child_specs(installation),
            sink,
            folder.run,
            on_ready=on_ready,
            # Or else new connections would wait for nobody while the proxies finish theirs.
            on_drain=installation.listening.close,
        )
        return await supervisor.run()

    try:
        code = asyncio.run(run())
    except ChildGivenUp as error:
        sys.stderr.write(f"tallygate: {error}\n")
        return EXIT_CONFIG if error.exit_code == EXIT_CONFIG else EXIT_FAULT
    sink.say("info", "all parts have ended")
    return code


def child_specs(installation: Installation) -> list[ChildSpec]:
    """Return what the supervisor runs, in the order of their start."""
    nats = installation.nats
    specs: list[ChildSpec] = []
    if nats is not None:
        specs.append(
            ChildSpec(
                part="nats-server",
                command=nats.command,
                environment={},
                inherited=(installation.lock,),
                drain_stage=3,
                stop_timeout_s=NATS_STOP_S,
                probe=nats.answers,
            )
        )
    specs += [
        _service(
            installation,
            f"ledger-{role}",
            ["ledger", "--role", role],
            drain_stage=1,
            stop_timeout_s=LEDGER_STOP_S,
        )
        for role in ("writer", "reader", *(["quack"] if installation.quack else []))
    ]
    specs.append(
        _service(
            installation,
            "admin",
            ["admin", *_address(installation.admin_listening), *_metrics(installation)],
            listening=installation.admin_listening,
            drain_stage=2,
            stop_timeout_s=ADMIN_STOP_S,
        )
    )
    specs += [
        _service(
            installation,
            f"proxy-{worker}",
            ["proxy", "--worker", str(worker), *_address(installation.listening)],
            listening=installation.listening,
            drain_stage=0,
            stop_timeout_s=installation.config.settings.drain_timeout_s + OUTBOX_FLUSH_S,
        )
        for worker in range(installation.workers)
    ]
    return specs


def _service(
    installation: Installation,
    part: str,
    arguments: list[str],
    *,
    drain_stage: int,
    stop_timeout_s: float,
    listening: socket.socket | None = None,
) -> ChildSpec:
    admin_host, admin_port = address_of(installation.admin_listening)
    environment = {
        **installation.environment,
        "TALLYGATE_ADMIN_URL": f"http://{admin_host}:{admin_port}",
    }
    if installation.nats is not None:
        # A URL with a password belongs into the environment, which no other user can read.
        environment["TALLYGATE_NATS_URL"] = installation.nats.url(_nats_user(part))
    inherited = [installation.lock]
    if listening is not None:
        inherited.append(listening.fileno())
    return ChildSpec(
        part=part,
        command=(
            *installation.program,
            *arguments,
            "--config",
            installation.config.path,
            "--data",
            str(installation.folder.path),
            "--accepted",
            str(installation.folder.accepted_config),
        ),
        environment=environment,
        inherited=tuple(inherited),
        drain_stage=drain_stage,
        stop_timeout_s=stop_timeout_s,
    )


def _nats_user(part: str) -> str:
    if part == "ledger-quack":
        # Another copy of the books: it reads what the reader reads.
        return "ledger-reader"
    return "proxy" if part.startswith("proxy-") else part


def _metrics(installation: Installation) -> list[str]:
    """Return the option that lets one process serve the metrics of all."""
    return ["--metrics", installation.metrics] if installation.metrics else []


def _address(listening: socket.socket) -> list[str]:
    host, port = address_of(listening)
    return ["--host", host, "--port", str(port), "--fd", str(listening.fileno())]


def _program() -> tuple[str, ...]:
    """Return the command line that runs this program again, under its own name if it has one."""
    script = Path(sys.executable).parent / "tallygate"
    if script.is_file():
        return (sys.executable, str(script))
    return (sys.executable, "-m", "services.cli")


def _print(text: str) -> None:
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except (OSError, ValueError):
        # Whoever read it is gone; the log says the same.
        return
