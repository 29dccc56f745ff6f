"""The page Logs: every request once, in every order, for those who may see it."""

import csv
import html
import re
from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests.support.admin import MASTER_KEY, RunningAdmin
from tests.support.dashboard import LoggedIn, log_in
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader

HOSTILE = "<img src=x onerror=alert(1)>\"'&"
ROWS = 120
NEWEST = ROWS


def _row(number: int, own_key_id: str) -> dict[str, object]:
    """Return the row of a request: five begin in the same second, some cost the same or nothing."""
    cells: dict[str, object] = {
        "request_id": f"tg_{number:03d}",
        "started_at": f"2026-11-20 10:{number // 5 // 60:02d}:{number // 5 % 60:02d}",
        "key_id": own_key_id if number % 10 == 0 else f"key_{number % 3}",
        "key_alias": HOSTILE if number == NEWEST else f"alias-{number % 3}",
        "user_id": f"user-{number % 3}",
        "team_id": "blue",
        "cost_usd": f"{number % 7}.125000000000",
        "duration_ms": 1000 + number % 4,
        "total_tokens": number % 9,
        "stream_sequence": number,
        "session_id": f"session-{number % 2}",
    }
    match number:
        case 11:
            cells |= {"status": "failure", "http_status": 529, "error_type": "overloaded_error"}
        case 12:
            cells |= {"status": "failure", "http_status": 0, "error_type": "lost"}
        case 13:
            cells |= {"status": "refused", "http_status": 429, "reason": "budget"}
        case 14:
            cells |= {"status": "client_closed"}
        case 15 | 16:
            cells |= {"cost_usd": None, "unpriced": True}
    return request_row(**cells)


@pytest.fixture(scope="module")
def own(admin: RunningAdmin) -> dict[str, object]:
    return admin.generate(key_alias="own")


@pytest.fixture(scope="module", autouse=True)
def _reader(
    own: dict[str, object], nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    rows = [_row(number, str(own["key_id"])) for number in range(1, ROWS + 1)]
    with running_query_reader(
        tmp_path_factory.mktemp("reader"),
        nats.url,
        rows,
        sequence_query="SELECT max(stream_sequence) FROM requests",
    ):
        yield


@pytest.fixture(scope="module")
def master(admin: RunningAdmin) -> LoggedIn:
    return log_in(admin.url, MASTER_KEY)


def _ids(text: str) -> list[str]:
    return re.findall(r'href="/ui/logs/(tg_\d+)"', text)


def _through(session: LoggedIn, path: str) -> list[str]:
    """Return the ids of all rows, as one finds them who goes on to the end."""
    found: list[str] = []
    while True:
        text = session.get(path).text
        found += _ids(text)
        further = re.search(r'hx-get="(/ui/logs/more[^"]+)"', text)
        if further is None:
            return found
        path = html.unescape(further[1])


def test_newest_request_is_first_and_shown_exactly(master: LoggedIn) -> None:
    # Given requests, when the page is opened, then the newest is first, with its exact numbers,
    # and a hostile name is text.
    text = master.get("/ui/logs").text
    assert _ids(text)[:2] == ["tg_120", "tg_119"]
    assert HOSTILE not in text
    assert html.escape(HOSTILE, quote=False).split('"')[0] in text
    assert "64,679 + 333" in text
    assert 'title="$1.125"' in text


@pytest.mark.parametrize("sort", ["time", "cost", "tokens", "duration", "first_byte"])
@pytest.mark.parametrize("order", ["desc", "asc"])
def test_paging_shows_every_request_once_in_order(master: LoggedIn, sort: str, order: str) -> None:
    # Given many requests with the same value, when one pages to the end in some order, then each
    # has come once, and in that order.
    found = _through(master, f"/ui/logs?sort={sort}&order={order}")
    assert len(found) == ROWS
    assert len(set(found)) == ROWS
    numbers = [int(each.removeprefix("tg_")) for each in found]
    value = {
        "time": lambda number: number // 5,
        "cost": lambda number: -1 if number in (15, 16) else number % 7,
        "tokens": lambda number: number % 9,
        "duration": lambda number: number % 4,
        "first_byte": lambda _: -1,
    }[sort]
    assert numbers == sorted(
        numbers, key=lambda number: (value(number), number), reverse=order == "desc"
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=error", {11}),
        ("status=lost", {12}),
        ("status=refused", {13}),
        ("status=closed", {14}),
        ("key=alias-1&user=user-1&team=blue&session=session-1&to=2026-11-20T10:00:00", {1}),
        ("from=2026-11-20T10:00:01&to=2026-11-20T10:00:01", {5, 6, 7, 8, 9}),
        ("from=2026-11-21", set()),
        ("to=2026-11-19", set()),
        ("model=no-such-model", set()),
        ("period=1h", set()),
    ],
)
def test_filters_find_what_they_say(master: LoggedIn, query: str, expected: set[int]) -> None:
    # Given a filter, when the page is opened with it, then it shows those requests alone, the
    # filter is in its form, and the sum is of the same requests.
    text = master.get(f"/ui/logs?{query}").text
    assert {int(each.removeprefix("tg_")) for each in _ids(text)} == expected
    assert (
        f'<strong class="num">{len(expected)}</strong>' in master.part(f"/ui/logs/sum?{query}").text
    )
    assert "No request yet" not in text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("status=broken", "it is one of success, refused"),
        ("period=2y", "it is one of 1h"),
        ("from=yesterday", "must be a date such as"),
        ("from=2026-11-21&to=2026-11-20", "is before"),
        ("from=&to=tomorrow", "must be a date such as"),
        ("colour=red", "There is no filter"),
        ("sort=colour", "it is one of time"),
        ("below=zzz", "start with the newest"),
        ("below=1e99~tg_1", "start with the newest"),
        ("key=" + "x" * 300, "longer than 256"),
    ],
)
def test_wrong_filter_is_told_on_the_page(master: LoggedIn, query: str, said: str) -> None:
    # Given an address with a wrong value, when it is opened, then the page says what is wrong,
    # and shows nothing that was not asked for.
    answer = master.get(f"/ui/logs?{query}")
    assert answer.status_code == 400
    assert said in html.unescape(answer.text)
    assert not _ids(answer.text)
    assert "data-filters" in answer.text


def test_live_rows_come_once_and_only_when_they_belong_there(master: LoggedIn) -> None:
    # Given an open page, when nothing new came, then nothing is answered; when two came, those
    # two; and a page of an ended period, or in another order, does not ask.
    text = master.get("/ui/logs?key=alias-0").text
    asked = re.search(r'hx-get="(/ui/logs/new[^"]+)" hx-trigger="every 2s"', text)
    assert asked is not None
    path = html.unescape(asked[1])
    assert f"after={NEWEST}" in path
    assert master.part(path).status_code == 204
    before = master.part(path.replace(f"after={NEWEST}", f"after={NEWEST - 7}"))
    assert _ids(before.text) == ["tg_117", "tg_114"], "119 is alias-2, 120 has another name"
    assert f"after={NEWEST}" in before.text
    assert "shown=2" in before.text
    for query in ("to=2026-11-20", "sort=cost", "order=asc"):
        assert "/ui/logs/new" not in master.get(f"/ui/logs?{query}").text
    stopped = master.part("/ui/logs/new?after=1&shown=990").text
    assert "Live updates stopped" in stopped
    assert "every 2s" not in stopped


def test_key_without_a_role_sees_its_own_requests_alone(
    admin: RunningAdmin, own: dict[str, object]
) -> None:
    # Given a key without a role, when it looks in any way, then only its own rows are there.
    session = log_in(admin.url, str(own["key"]))
    mine = {f"tg_{number:03d}" for number in range(10, ROWS + 1, 10)}
    assert set(_through(session, "/ui/logs")) == mine
    assert not _ids(session.get("/ui/logs?user=user-1&status=error").text)
    assert set(_ids(session.part("/ui/logs/new?after=1").text)) == mine
    assert f">{len(mine)}</strong>" in session.part("/ui/logs/sum").text
    lines = session.get("/ui/logs.csv").text.splitlines()
    assert {line.partition(",")[0] for line in lines[1:]} == mine


def test_csv_has_all_rows_that_match(master: LoggedIn) -> None:
    # Given a filter, when its rows are fetched as CSV, then all are there, exact to the last digit.
    answer = master.get("/ui/logs.csv?user=user-0")
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(answer.text.splitlines()))
    assert len(rows) == ROWS // 3
    expected = sum(
        Decimal(number % 7) + Decimal("0.125") for number in range(3, ROWS + 1, 3) if number != 15
    )
    assert sum(Decimal(row["cost_usd"]) for row in rows if row["cost_usd"]) == expected
    assert master.get("/ui/logs.csv?status=broken").status_code == 400
