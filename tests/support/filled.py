"""A whole management API for tests: admin, the ledger's writer and reader, and some requests."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tests.support.admin import RunningAdmin, running_admin
from tests.support.ledger import LedgerProcess, Producer, batch, publish
from tests.support.nats import running_nats

__all__ = ["FilledGateway", "running_filled_gateway"]

READY_TIMEOUT_S = 60.0
POLL_S = 0.02


class FilledGateway(msgspec.Struct, frozen=True):
    """The admin service, and a key, whose requests the ledger has counted.

    `key` is the answer of POST /key/generate.
    """

    admin: RunningAdmin
    key: dict[str, Any]


@contextmanager
def running_filled_gateway(
    folder: Path, *, requests: int, **key_fields: Any
) -> Iterator[FilledGateway]:
    """Run admin, writer and reader, with so many requests of a key that has these fields."""
    with ExitStack() as parts:
        nats = parts.enter_context(running_nats(folder))
        admin = parts.enter_context(running_admin(folder / "admin", nats.url, wait=False))
        writer = parts.enter_context(LedgerProcess.started(folder / "ledger", nats.url))
        parts.enter_context(LedgerProcess.started(folder / "ledger", nats.url, "reader"))
        # The streams are the writer's work.
        writer.wait_ready()
        admin.wait_ready()
        key = admin.generate(**key_fields)
        producer = Producer()
        owner = {name: key[name] for name in ("key_id", "key_alias", "team_id", "user_id")}
        records = [producer.record(request_id=f"tg_{n}", **owner) for n in range(requests)]
        publish(nats.url, [batch(*(producer.recorded(record) for record in records))])
        _wait_for_requests(admin, str(key["key"]), requests)
        yield FilledGateway(admin=admin, key=key)


def _wait_for_requests(admin: RunningAdmin, key: str, requests: int) -> None:
    """Wait until the ledger shows the requests, and the change that made their key."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    rows = changes = 0
    while rows < requests or changes == 0:
        assert time.monotonic() < deadline, f"{rows} of {requests} requests, {changes} changes"
        time.sleep(POLL_S)
        answer = admin.http.get("/spend/logs", params={"api_key": key})
        rows = len(answer.json()) if answer.is_success else 0
        audit = admin.http.get("/audit", params={"object_type": "key"})
        changes = audit.json()["total"] if audit.is_success else 0
