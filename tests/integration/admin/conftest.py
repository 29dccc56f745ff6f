"""One NATS and one admin service for the tests of a module; each test makes keys of its own."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.runtime.bus import Bus
from tests.support.admin import RunningAdmin, running_admin
from tests.support.nats import NatsServer, running_nats


async def make_streams(url: str) -> None:
    """Make the streams, as the ledger's writer does."""
    bus = await Bus.connect(url, "ledger-writer")
    await bus.ensure_streams()
    await bus.close()


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    folder: Path = tmp_path_factory.mktemp("nats")
    with running_nats(folder) as server:
        asyncio.run(make_streams(server.url))
        yield server


@pytest.fixture(scope="module")
def admin(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAdmin]:
    with running_admin(tmp_path_factory.mktemp("admin"), nats.url) as running:
        yield running
