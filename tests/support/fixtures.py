"""The fixtures that all tests may ask for. `tests/conftest.py` loads them as a plugin."""

import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.mock import MockAnthropic

__all__ = ["mock_anthropic"]


@pytest.fixture(scope="session", autouse=True)
def _one_store_of_authorities() -> Iterator[None]:
    """Let all clients that trust the usual authorities share one store of them.

    httpx reads it anew for every client, which is 17 ms of work, and most of what tests ask is
    asked by a client of its own, over plain HTTP at that.
    """
    made = httpx.create_ssl_context
    stores: dict[tuple[object, ...], ssl.SSLContext] = {}

    def shared(*, verify: Any, cert: Any, trust_env: bool) -> ssl.SSLContext:
        if verify is not True or cert is not None:
            return made(verify, cert, trust_env)
        named = (trust_env, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        if named not in stores:
            stores[named] = made(trust_env=trust_env)
        return stores[named]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", shared)
        yield


@pytest.fixture(scope="module")
def _mock_anthropic_process(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[MockAnthropic]:
    folder: Path = tmp_path_factory.mktemp("mock_anthropic")
    with MockAnthropic.started(folder) as mock:
        yield mock


@pytest.fixture
def mock_anthropic(_mock_anthropic_process: MockAnthropic) -> MockAnthropic:
    """A mock of the Anthropic API: one process a module, without scenarios and records a test."""
    _mock_anthropic_process.reset()
    return _mock_anthropic_process
