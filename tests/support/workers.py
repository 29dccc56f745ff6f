"""A run in which not all tests had their turn is told from one in which some failed.

A file that cannot be read, processes that do not find the same tests, a process that crashes: with
`--numprocesses` each of them can end the run early, with the exit code of a failed test. Whoever
then runs what failed a second time must not take that for the whole.
"""

from typing import Any

import pytest

__all__ = ["pytest_collectreport", "pytest_sessionfinish", "pytest_testnodedown"]

_unread: list[object] = []
_crashed: list[object] = []


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Remember what could not be read."""
    if report.failed:
        _unread.append(report.nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object, error: Any) -> None:
    """Remember a process that did not end in order."""
    if error:
        _crashed.append(node)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Give such a run the exit code 2 or 3, and let `--last-failed` mean all tests."""
    if _crashed:
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
    elif _unread:
        session.exitstatus = pytest.ExitCode.INTERRUPTED
    else:
        return
    if (cache := getattr(session.config, "cache", None)) is not None:
        cache.set("cache/lastfailed", {})
