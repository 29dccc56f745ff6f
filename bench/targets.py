"""What is measured: the upstream alone, nginx in front of it, the gateway, or any other server."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import msgspec

from bench.load import Caller
from bench.processes import pin, tree
from bench.services import free_port, until_ready
from tests.support.gateway import Gateway
from tests.support.mock import MockAnthropic

__all__ = ["GATEWAY", "PARTS", "StartUp", "Target", "Upstream", "nginx", "other", "tallygate"]

GATEWAY = "tallygate"
PARTS = ("nats-server", "--role writer", "--role reader", "admin")
"""How the command lines of the gateway's other processes are told from one another."""
NGINX_READY_TIMEOUT_S = 10.0
BUDGET_USD = 1_000_000

_NGINX = """\
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000; client_max_body_size 32m; client_body_buffer_size 1m;
  proxy_ssl_verify on; proxy_ssl_trusted_certificate {ca_file}; proxy_ssl_name localhost;
  proxy_ssl_protocols TLSv1.3; proxy_ssl_session_reuse on;
  upstream api {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{
      proxy_pass {scheme}://api; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to send requests to. `others`: processes that work for it, by their part.

    What the processes start belongs to them. `about` is what was measured: versions.
    """

    name: str
    port: int
    process_ids: tuple[int, ...]
    others: dict[str, tuple[int, ...]] = {}
    caller: Caller = Caller()
    host: str = "127.0.0.1"
    about: str = ""

    @property
    def is_booked(self) -> bool:
        """Whether its requests must be in the ledger."""
        return self.name == GATEWAY


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """Where the benchmark's upstream listens. `ca_file`: it speaks TLS, and this is its root."""

    port: int
    ca_file: Path | None = None

    @property
    def scheme(self) -> str:
        return "https" if self.ca_file else "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


class StartUp(msgspec.Struct, frozen=True, kw_only=True):
    """From the command to "ready", and to the first whole answer after that."""

    ready_s: float
    first_answer_s: float


def other(argument: str) -> Target:
    """Read NAME=HOST:PORT:PID. Raises ValueError."""
    name, _, address = argument.partition("=")
    host, port, process_id = address.rsplit(":", 2)
    return Target(name=name, host=host, port=int(port), process_ids=(int(process_id),))


@contextmanager
def nginx(folder: Path, upstream: Upstream, core: int | None) -> Iterator[Target | None]:
    """Run nginx as a plain proxy with one worker; None where there is no nginx."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        yield None
        return
    folder.mkdir()
    port = free_port()
    config = folder / "nginx.conf"
    lines = _NGINX if upstream.ca_file else _without_tls(_NGINX)
    config.write_text(
        lines.format(
            folder=folder,
            upstream=upstream.port,
            port=port,
            scheme=upstream.scheme,
            ca_file=upstream.ca_file,
        )
    )
    log = folder / "error.log"
    process = subprocess.Popen([binary, "-e", str(log), "-c", str(config), "-p", str(folder)])
    try:
        until_ready(process, port, log, NGINX_READY_TIMEOUT_S)
        pin(tree([process.pid]), core)
        yield Target(name="nginx", port=port, process_ids=(process.pid,))
    finally:
        process.terminate()
        process.wait(10)


def _without_tls(config: str) -> str:
    return "\n".join(line for line in config.splitlines() if "proxy_ssl" not in line)


@contextmanager
def tallygate(
    folder: Path, upstream: Upstream, core: int | None, *, workers: int, keys: int
) -> Iterator[tuple[Gateway, Target, StartUp]]:
    """Run the whole gateway as `tallygate serve` does, with a key that has models and a budget."""
    folder.mkdir()
    # All that it wants to know of an upstream is its address.
    gateway = Gateway(folder, cast("MockAnthropic", upstream), workers=workers)
    if upstream.ca_file:
        with gateway.config.open("a") as config:
            config.write(f"  upstream_ca_file: {upstream.ca_file}\n")
    try:
        began = time.perf_counter()
        gateway.start()
        ready = time.perf_counter()
        gateway.client.get("/v1/models")
        start_up = StartUp(ready_s=ready - began, first_answer_s=time.perf_counter() - ready)
        key = gateway.new_key(models=["anthropic-claude"], max_budget=BUDGET_USD)
        for _ in range(keys - 1):
            gateway.new_key(models=["anthropic-claude"], max_budget=BUDGET_USD)
        proxies = tuple(gateway.processes(" proxy "))
        # Several workers are not held on one core.
        pin(proxies, core if workers == 1 else None)
        others = {part.split()[-1]: tuple(gateway.processes(part)) for part in PARTS}
        target = Target(
            name=GATEWAY,
            port=gateway.port,
            process_ids=proxies,
            others=others,
            caller=Caller(headers={"x-litellm-api-key": f"Bearer {key}"}),
        )
        yield gateway, target, start_up
    finally:
        gateway.stop()
        gateway.client.close()
