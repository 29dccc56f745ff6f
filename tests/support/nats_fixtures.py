"""The fixtures `nats_server` and `nats_url`, and the line that says what the tests ran against.

With a container engine (TALLYGATE_TEST_NATS_IMAGE is set) NATS runs in a container, otherwise it is
the binary. Tests that hurt a process or look into a store need the binary, which
`tests.support.nats.start_nats` starts; these fixtures are for all others.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers import NatsContainerServer, nats_image, running_nats_container
from tests.support.nats import STARTED, NatsServer, running_nats

__all__ = [
    "nats_server",
    "nats_url",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
]

_STARTED_BY_WORKER = "nats_servers_started"


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer | NatsContainerServer]:
    """An empty NATS with JetStream of this test's own, with `url`, `stop`, `kill`, `restart`."""
    image = nats_image()
    if image is None:
        with running_nats(tmp_path) as server:
            yield server
    else:
        with running_nats_container(image) as container:
            yield container


@pytest.fixture
def nats_url(nats_server: NatsServer | NatsContainerServer) -> str:
    """The address of an empty NATS with JetStream of this test's own."""
    return nats_server.url


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that prints the summary what this one of several has started."""
    if (told := getattr(session.config, "workeroutput", None)) is not None:
        told[_STARTED_BY_WORKER] = dict(STARTED)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Count what one of several processes has started; one that crashed tells nothing."""
    STARTED.update(getattr(node, "workeroutput", {}).get(_STARTED_BY_WORKER, {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many nats-servers the tests used, and of which kind."""
    if not STARTED:
        return
    parts = [f"{count} as a {kind}" for kind, count in sorted(STARTED.items())]
    terminalreporter.write_line(f"nats-servers started by the tests: {', '.join(parts)}")
    if nats_image() is None:
        terminalreporter.write_line(
            "no container engine was given: the tests that would use NATS in a container "
            "used the embedded nats-server instead"
        )
