"""The real client, directly and through a real proxy, over one mock of the API."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.claude_compared import Comparison
from tests.support.mock import MockAnthropic
from tests.support.nats import running_nats
from tests.support.proxy import gateway_config, model_entry, running_proxy
from tests.support.tap import running_tap

COMPANY_KEY = "sk-ant-api03-of-the-company"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comparison]:
    """A mock, a proxy that knows one key, and a relay that stands before either."""
    folder: Path = tmp_path_factory.mktemp("comparison")
    with MockAnthropic.started(folder) as mock, running_nats(folder) as nats, running_tap() as tap:
        config = gateway_config(
            model_entry(mock.url, api_key=COMPANY_KEY),
            model_entry(mock.url, name="claude-*", model="anthropic/claude-*", api_key=COMPANY_KEY),
        )
        with running_proxy(folder, nats.url, config) as proxy:
            key = proxy.issue_key(key_alias="compared")
            yield Comparison(mock=mock, proxy=proxy, tap=tap, folder=folder, key=key)
