"""The fixtures that all tests may ask for. `tests/conftest.py` loads them as a plugin."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mock import MockAnthropic

__all__ = ["mock_anthropic"]


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
