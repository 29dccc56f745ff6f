"""One Chromium and one demo for the tests of a file.

No longer than a file: while Playwright runs, its event loop is the thread's, and other tests have
loops of their own.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Browser, Session
from tests.support.demo import Demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo with some history, in which nothing goes on."""
    folder: Path = tmp_path_factory.mktemp("demo") / "demo"
    with Demo.started(folder, requests=1200) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A running Chromium."""
    with Browser.started() as running:
        yield running


@pytest.fixture(scope="module")
def admin(demo: Demo, browser: Browser) -> Iterator[Session]:
    """A window of somebody who logged in with the master key."""
    with browser.session(demo.state.url) as session:
        session.log_in(demo.state.master_key)
        yield session
