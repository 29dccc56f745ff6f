"""The real client, directly and through a real proxy, over one mock of the API."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.claude_compared import Comparison
from tests.support.mock import MockAnthropic
from tests.support.nats import running_nats
from tests.support.proxy import gateway_config, model_entry, running_proxy
from tests.support.tap import running_tap

COMPANY_KEY = "sk-ant-api03-of-the-company"


def entries(mock: MockAnthropic) -> list[dict[str, Any]]:
    """Return an alias, and all names of the API as they are."""
    return [
        model_entry(mock.url, api_key=COMPANY_KEY),
        model_entry(mock.url, name="claude-*", model="anthropic/claude-*", api_key=COMPANY_KEY),
    ]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comparison]:
    """A mock, a proxy that forwards credentials and knows one key, and a relay before either."""
    folder: Path = tmp_path_factory.mktemp("comparison")
    with MockAnthropic.started(folder) as mock, running_nats(folder) as nats, running_tap() as tap:
        config = gateway_config(*entries(mock))
        with running_proxy(folder, nats.url, config) as proxy:
            key = proxy.issue_key(key_alias="compared")
            yield Comparison(mock=mock, proxy=proxy, tap=tap, folder=folder, key=key)


@pytest.fixture(scope="module")
def group_comparison(
    tmp_path_factory: pytest.TempPathFactory, comparison: Comparison
) -> Iterator[Comparison]:
    """The same with a proxy that forwards credentials for one model group alone: the alias."""
    folder: Path = tmp_path_factory.mktemp("group")
    config = gateway_config(*entries(comparison.mock), forward=False)
    config["litellm_settings"]["model_group_settings"] = {
        "forward_client_headers_to_llm_api": ["anthropic-claude"]
    }
    with running_proxy(folder, comparison.proxy.nats_url, config) as proxy:
        proxy.wait_known(comparison.key)
        yield Comparison(
            mock=comparison.mock,
            proxy=proxy,
            tap=comparison.tap,
            folder=folder,
            key=comparison.key,
        )
