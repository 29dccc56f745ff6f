"""LiteLLM as a peer: one worker, in the set-up that costs it least, asked in two ways.

It has no database (so no spend is stored), knows its master key alone, sends a key of its own to
the upstream, and logs errors only. How to install it, and what is fair: bench/README.md.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.load import Caller
from bench.processes import pin, tree
from bench.services import free_port, printed_by, running, until_ready
from bench.targets import Target

__all__ = ["LITELLM", "LITELLM_OAUTH", "callers", "config_text", "litellm"]

LITELLM = "litellm"
LITELLM_OAUTH = "litellm-oauth"
"""The same LiteLLM, asked as the gateway is: a subscriber's token is forwarded."""
READY_TIMEOUT_S = 240.0
"""It takes 13 seconds on a quiet machine, mostly for imports."""
MASTER_KEY = "sk-bench-4b1f0e6d9c2a8375"
"""Not the well-known example: with that one it does not start."""

_VERSIONS = """\
import sys
from importlib.metadata import version
names = ("litellm", "uvicorn", "httptools", "uvloop", "opentelemetry-api")
print(", ".join(f"{name} {version(name)}" for name in names), end="")
print(", Python", sys.version.split()[0])
"""


def config_text(upstream_port: int) -> str:
    """Return its configuration: one model, in front of the benchmark's upstream."""
    return f"""\
model_list:
  - model_name: {Caller().model}
    litellm_params:
      model: anthropic/claude-sonnet-4-20250514
      api_base: http://127.0.0.1:{upstream_port}
      api_key: sk-ant-api03-bench
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
  forward_client_headers_to_llm_api: true
litellm_settings:
  telemetry: false
"""


def callers() -> dict[str, Caller]:
    """Return who asks it, by the name of the target: what costs it least, and a subscriber."""
    bearer = f"Bearer {MASTER_KEY}"
    return {
        LITELLM: Caller(kind="auth_token", headers={"authorization": bearer}),
        LITELLM_OAUTH: Caller(headers={"x-litellm-api-key": bearer}),
    }


def _environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "LITELLM_MASTER_KEY": MASTER_KEY,
        # Prices from its package, not from the network.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
    }


@contextmanager
def litellm(
    folder: Path, upstream_port: int, core: int | None, venv: Path
) -> Iterator[list[Target]]:
    """Run the LiteLLM of a virtual environment; it is two targets.

    Raises RuntimeError where it is not there, lacks a package that makes it faster, or fails.
    """
    folder.mkdir()
    environment = _environment(folder)
    versions = printed_by([venv / "bin" / "python", "-c", _VERSIONS], environment)
    config, log, port = folder / "config.yaml", folder / "litellm.log", free_port()
    config.write_text(config_text(upstream_port))
    command: list[str | Path] = [
        venv / "bin" / "litellm",
        "--config",
        config,
        "--host",
        "127.0.0.1",
    ]
    command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    with running(command, log, environment) as process:
        until_ready(process, port, log, READY_TIMEOUT_S, "/health/liveliness")
        pin(tree([process.pid]), core)
        yield [
            Target(name=name, port=port, process_ids=(process.pid,), caller=caller, about=versions)
            for name, caller in callers().items()
        ]
