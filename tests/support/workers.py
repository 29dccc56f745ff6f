"""What holds where tests run in several processes at once (`pytest --numprocesses`)."""

from typing import Any

import pytest

__all__ = ["pytest_sessionfinish", "pytest_testnodedown"]

_crashed: list[object] = []


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object, error: Any) -> None:
    """Remember a process that did not end in order: one that crashed in the midst of a test."""
    if error:
        _crashed.append(node)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """After a crash say that tests may not have run, and let `--last-failed` run all of them.

    Too many crashes end the run early. Whoever then runs what failed a second time must not take
    it for the whole.
    """
    if not _crashed:
        return
    session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
    if (cache := getattr(session.config, "cache", None)) is not None:
        cache.set("cache/lastfailed", {})
