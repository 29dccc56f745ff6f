"""Anthropic's own gateway (`claude gateway`) as a peer, with all that it needs.

PostgreSQL, an issuer to sign in at, and one daily cap, far above what the run costs: so it meters,
as the gateway that it is compared with does. How to get it, and what is fair: bench/README.md.
"""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.load import Caller
from bench.oidc import CLIENT_ID, CLIENT_SECRET, USER, issuer, sign_in
from bench.postgres import postgres
from bench.processes import pin, tree
from bench.services import free_port, printed_by, running, until_ready
from bench.targets import Target
from bench.upstream import STAINLESS_ANSWER_HEADER

__all__ = ["CLAUDE_GATEWAY", "claude_gateway", "config_text"]

CLAUDE_GATEWAY = "claude-gateway"
READY_TIMEOUT_S = 120.0
TOKEN_HOURS = 12
"""So long the sign-in lasts: no run is longer."""
CAP_CENTS = "1000000000"
MODEL = "claude-sonnet-4-20250514"
"""It takes only the names of models that it knows."""
WRITE_KEY = "bench-admin-write-0123456789abcdef0123456789"
JWT_SECRET = "bench-jwt-0123456789abcdef0123456789abcdef"


def config_text(port: int, upstream_port: int, issuer_url: str, postgres_url: str) -> str:
    """Return its configuration, as JSON, which is YAML too."""
    config: dict[str, Any] = {
        "listen": {
            "host": "127.0.0.1",
            "port": port,
            "public_url": f"http://127.0.0.1:{port}",
        },
        "upstreams": [
            {
                "provider": "anthropic",
                "base_url": f"http://127.0.0.1:{upstream_port}",
                "auth": {"api_key": "sk-ant-api03-bench"},
            }
        ],
        "oidc": {
            "issuer": issuer_url,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
        },
        "session": {"jwt_secret": JWT_SECRET, "ttl_hours": TOKEN_HOURS},
        "store": {"postgres_url": postgres_url},
        "admin": {"write_keys": [{"id": "bench", "key": WRITE_KEY}]},
    }
    return json.dumps(config, indent=1)


def _set_cap(url: str) -> None:
    cap = {
        "scope": {"type": "user", "user_id": USER["sub"]},
        "amount": CAP_CENTS,
        "period": "daily",
    }
    address = f"{url}/v1/organizations/spend_limits"
    answer = httpx.post(address, json=cap, headers={"x-api-key": WRITE_KEY}, trust_env=False)
    if not answer.is_success:
        raise RuntimeError(f"the cap was refused: {answer.status_code} {answer.text[:300]}")


def _spent_cents(url: str) -> float:
    """Return what it has counted for the user today."""
    address = f"{url}/v1/organizations/spend_limits/effective"
    answer = httpx.get(address, headers={"x-api-key": WRITE_KEY}, trust_env=False, timeout=30.0)
    rows = answer.json()["data"]
    days = [row for row in rows if row["period"] == "daily"]
    return sum(float(row.get("period_to_date_spend") or 0) for row in days)


@contextmanager
def claude_gateway(
    folder: Path, upstream_port: int, core: int | None, program: Path
) -> Iterator[Target]:
    """Run the gateway of a native Claude Code and sign in.

    Raises RuntimeError where a part of it is not there or fails, or where it has metered nothing
    in the end: it would then have been measured without what it is measured for.
    """
    folder.mkdir()
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_GATEWAY_ALLOW_LOOPBACK": "1",
    }
    with ExitStack() as stack:
        version = printed_by([program, "--version"], environment)
        known = stack.enter_context(issuer())
        postgres_url, postgres_id, postgres_version = stack.enter_context(postgres())
        port = free_port()
        config, log = folder / "gateway.yaml", folder / "gateway.log"
        config.write_text(config_text(port, upstream_port, known.url, postgres_url))
        running_gateway = running([program, "gateway", "--config", config], log, environment)
        process = stack.enter_context(running_gateway)
        until_ready(process, port, log, READY_TIMEOUT_S, "/readyz")
        pin(tree([process.pid]), core)
        url = f"http://127.0.0.1:{port}"
        bearer = sign_in(url)
        _set_cap(url)
        yield Target(
            name=CLAUDE_GATEWAY,
            port=port,
            process_ids=(process.pid,),
            others={"postgres": (postgres_id,)},
            caller=Caller(
                kind="auth_token",
                headers={"authorization": f"Bearer {bearer}"},
                model=MODEL,
                answer_header=STAINLESS_ANSWER_HEADER.decode(),
            ),
            about=f"{version}, {postgres_version}",
        )
        if not _spent_cents(url):
            raise RuntimeError("Anthropic's gateway has metered nothing")
