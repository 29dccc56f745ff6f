"""A NATS, a mock of the API and a scripted upstream for the tests of one module."""

from collections.abc import Iterator

import pytest

from tests.support.mock import MockAnthropic
from tests.support.nats import NatsServer, running_nats
from tests.support.scripted import ScriptedServer, scripted_server


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with running_nats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockAnthropic]:
    with MockAnthropic.started(tmp_path_factory.mktemp("mock")) as running:
        yield running


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        yield server
