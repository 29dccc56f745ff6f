"""Destinations that are exchanged while one of them does not let go."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from schemas.alerts import AlertDestination
from services.admin import alerts as alerts_module
from services.admin.alert_rules import Alert
from services.admin.alert_senders import Sender, sender_for
from services.admin.alerts import Alerts
from services.admin.ledger_client import LedgerClient
from services.runtime.bus import Bus
from services.runtime.registry import RegistrySnapshot
from services.runtime.tasks import end_tasks
from tests.support.nats import NatsServer
from tests.support.receivers import HttpReceiver, http_receiver

TIMEOUT_S = 60.0


class Stubborn:
    """Never sends, and loses the first cancellation, as a library may."""

    alerts_max = 1

    async def send(self, alerts: Sequence[Alert]) -> None:
        """Wait."""
        assert alerts
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(3600)


def chosen(destination: AlertDestination, client: httpx.AsyncClient) -> Sender:
    return Stubborn() if destination.name == "stuck" else sender_for(destination, client)


async def change(nats_url: str, folder: Path, hook: HttpReceiver) -> None:
    bus = await Bus.connect(nats_url, "admin")
    snapshot = RegistrySnapshot()
    snapshot.loaded = True
    stuck = AlertDestination(name="stuck", kind="webhook", url=hook.url)
    well = AlertDestination(name="well", kind="webhook", url=f"{hook.url}/well")
    alerts = Alerts(bus, folder, (stuck, well), snapshot, LedgerClient(bus))
    task = asyncio.create_task(alerts.run())

    async def told(count: int) -> None:
        """Send tests until another one has arrived."""
        while len(hook.at("/well")) < count:
            await alerts.test("nobody")
            await asyncio.sleep(0.05)

    try:
        async with asyncio.timeout(TIMEOUT_S):
            await told(1)
            before = len(hook.at("/well"))
            alerts.take((well,))
            await told(before + 20)
    finally:
        await end_tasks(task)
        await bus.close()


def test_one_that_does_not_let_go_keeps_no_change_back(
    nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given two destinations, of which one is in an attempt that loses its cancellation, when the
    # configuration names the other one alone, then that one is told of what comes
    monkeypatch.setattr(alerts_module, "sender_for", chosen)
    with http_receiver() as hook:
        asyncio.run(change(nats.url, tmp_path, hook))
