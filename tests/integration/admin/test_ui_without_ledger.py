"""Pages while the ledger's reader is away: they come, and say what is missing and why."""

import pytest

from tests.support.admin import MASTER_KEY, RunningAdmin
from tests.support.dashboard import LoggedIn, log_in


@pytest.fixture(scope="module")
def master(admin: RunningAdmin) -> LoggedIn:
    return log_in(admin.url, MASTER_KEY)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ui/logs", 200),
        ("/ui/logs/new?after=5", 200),
        ("/ui/logs/sum", 503),
        ("/ui/logs.csv", 503),
        ("/ui/logs/tg_1", 503),
        ("/ui/sessions", 200),
        ("/ui/sessions/s", 503),
        ("/ui/sql?q=SELECT+1", 200),
        ("/ui/sql/result.csv?q=SELECT+1", 503),
        ("/ui/sql/result.parquet?q=SELECT+1", 503),
    ],
)
def test_page_says_that_the_ledger_is_away(master: LoggedIn, path: str, status: int) -> None:
    # Given no reader of the ledger, when a page is opened, then what it needs no ledger for is
    # there, and in the place of the rest it says what is wrong and what goes on all the same.
    answer = master.get(path)
    assert answer.status_code == status
    assert "reader cannot be reached at the moment" in answer.text
    assert "requests go on being counted" in answer.text
    if path == "/ui/logs":
        assert "data-filters" in answer.text
        assert "No request yet" not in answer.text
