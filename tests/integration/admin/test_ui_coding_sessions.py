"""The page Sessions and that of one session: sums and timelines are those of their requests."""

import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.admin import MASTER_KEY, RunningAdmin
from tests.support.dashboard import LoggedIn, log_in
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader

HOSTILE = "<b>bold</b>\"'"
SMALL = 60
STEPS = 130
NOW = datetime.now(UTC).replace(tzinfo=None)


def _step(number: int, key_id: str) -> dict[str, object]:
    """Return a request of the long session: every tenth is a sub-agent's; a pause after 60."""
    began = NOW - timedelta(hours=5) + timedelta(seconds=10 * number)
    began += timedelta(minutes=30 if number > 60 else 0)
    cells: dict[str, object] = {
        "request_id": f"tg_long_{number:03d}",
        "started_at": str(began),
        "ended_at": str(began + timedelta(seconds=4)),
        "duration_ms": 4000,
        "key_id": key_id,
        "key_alias": "laptop",
        "user_id": "ana",
        "session_id": "long",
        "purpose": "main",
        "prompt_tokens": 1000 * number,
        "cache_read_tokens": 900 * number,
        "output_tokens": 10,
        "total_tokens": 1000 * number + 10,
        "cost_usd": "0.010000000000",
        "stop_reason": "tool_use",
    }
    if number % 10 == 0:
        cells |= {"agent_id": f"agent-{number % 20}", "purpose": "agent", "model": "haiku"}
    if number == 7:
        cells |= {"status": "failure", "http_status": 529, "error_type": "overloaded_error"}
    return request_row(**cells)


def _rows(key_id: str) -> list[dict[str, object]]:
    rows = [_step(number, key_id) for number in range(1, STEPS + 1)]
    for number in range(1, SMALL + 1):
        began = NOW - timedelta(hours=number // 3 + 1)
        rows.append(
            request_row(
                request_id=f"tg_small_{number}",
                started_at=str(began),
                ended_at=str(began + timedelta(seconds=number % 4)),
                session_id=f"small-{number:02d}",
                key_id="other",
                key_alias=HOSTILE if number == 1 else "other",
                cost_usd=f"{number % 5}.000000000000",
                total_tokens=number % 3,
            )
        )
    old = NOW - timedelta(days=20)
    rows.append(request_row(session_id="old", started_at=str(old), ended_at=str(old)))
    for number, began in enumerate((old, NOW - timedelta(hours=30))):
        cells = {"request_id": f"tg_spread_{number}", "session_id": "spread"}
        rows.append(request_row(**cells, started_at=str(began), ended_at=str(began)))
    refused = {"status": "refused", "started_at": str(NOW), "ended_at": str(NOW)}
    rows.append(request_row(session_id="refused", **refused))
    return rows


@pytest.fixture(scope="module")
def own(admin: RunningAdmin) -> dict[str, object]:
    return admin.generate(key_alias="laptop")


@pytest.fixture(scope="module", autouse=True)
def _reader(
    own: dict[str, object], nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    with running_query_reader(
        tmp_path_factory.mktemp("reader"), nats.url, _rows(str(own["key_id"]))
    ):
        yield


@pytest.fixture(scope="module")
def master(admin: RunningAdmin) -> LoggedIn:
    return log_in(admin.url, MASTER_KEY)


def _through(session: LoggedIn, path: str, pattern: str) -> list[str]:
    """Return what a pattern finds on a page and on all that follow it."""
    answer = session.get(path)
    found = re.findall(pattern, answer.text)
    while further := re.search(
        r'<tr hx-get="([^"]+)" hx-trigger="(?:intersect once|load)"', answer.text
    ):
        answer = session.part(html.unescape(further[1]))
        assert "<html" not in answer.text
        found += re.findall(pattern, answer.text)
    return found


@pytest.mark.parametrize("sort", ["time", "duration", "requests", "tokens", "cost"])
@pytest.mark.parametrize("order", ["desc", "asc"])
def test_every_session_of_the_period_is_listed_once(
    master: LoggedIn, sort: str, order: str
) -> None:
    # Given sessions, some with equal sums, when one pages through them in some order, then each
    # of the period is there once, and refused requests make none.
    found = _through(
        master, f"/ui/sessions?sort={sort}&order={order}", r'href="/ui/sessions/([^"?]+)\?from='
    )
    expected = {"long", "spread", *(f"small-{number:02d}" for number in range(1, SMALL + 1))}
    assert len(found) == len(set(found)) == len(expected)
    assert set(found) == expected
    if sort in ("requests", "tokens") or (sort, order) == ("duration", "desc"):
        assert found[0 if order == "desc" else -1] == "long"


def test_session_is_listed_with_its_sums(master: LoggedIn) -> None:
    # Given a session, when its user is asked for, then it stands there alone with exact sums; one
    # of an earlier time comes with a longer period; and hostile names are text.
    text = master.get("/ui/sessions?user=ana").text
    assert re.findall(r'href="/ui/sessions/([a-z0-9-]+)\?from=', text) == ["long"]
    for said in (f">{STEPS}<", "1 failed", "90%", "$1.30", 'class="num">2</td>'):
        assert said in text, said
    oldest = "/ui/sessions?period=30d&sort=time&order=asc"
    assert "/ui/sessions/old" not in master.get(oldest).text
    assert "/ui/sessions/old" in master.get(f"{oldest}&at_once=1").text
    assert HOSTILE not in master.get("/ui/sessions?sort=time").text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("period=2y", "it is one of 24h"),
        ("sort=colour", "it is one of time"),
        ("colour=red", "There is no filter"),
        ("below=x", "start with the newest"),
        ("key=" + "x" * 300, "longer than 256"),
    ],
)
def test_wrong_address_is_told_on_the_page(master: LoggedIn, query: str, said: str) -> None:
    answer = master.get(f"/ui/sessions?{query}")
    # Given a wrong value in an address, then the page says which, and lists nothing.
    assert answer.status_code == 400
    assert said in html.unescape(answer.text)
    assert 'href="/ui/sessions/small' not in answer.text


def test_timeline_has_every_request_once_in_order(master: LoggedIn) -> None:
    # Given a long session, when one goes on to its end, then every request is there once and in
    # order, with its cost so far, the pause, and its sub-agents by number.
    found = _through(master, "/ui/sessions/long", r'href="/ui/logs/tg_long_(\d+)"')
    assert [int(each) for each in found] == list(range(1, STEPS + 1))
    so_far = _through(
        master, "/ui/sessions/long", r'<td class="num"><span class="num" title="(\$[\d.]+)"'
    )
    assert so_far[1::2] == [f"${number / 100:.2f}" for number in range(1, STEPS + 1)]
    text = master.get("/ui/sessions/long").text
    assert "30 min 6 s pause" in text
    assert "↳ agent 1" in text
    assert "↳ agent 2" in text
    assert "Error 529" in text
    assert f'title="{sum(1000 * n + 10 for n in range(1, STEPS + 1)):,}"' in text
    assert master.get("/ui/sessions/long?after=x").status_code == 400


def test_requests_of_other_days_are_told_and_shown(
    master: LoggedIn, admin: RunningAdmin, own: dict[str, object]
) -> None:
    # Given a session with requests of this week and of weeks ago, when it is opened, then those of
    # the week are there, the page says by itself how many are not, and all days show both; one
    # that has no request of this week is found; others' requests are not counted for anybody.
    text = master.get("/ui/sessions/spread").text
    assert re.findall(r'href="/ui/logs/tg_spread_(\d)"', text) == ["1"]
    part = re.search(r'hx-get="(/ui/sessions/spread/elsewhere[^"]+)" hx-trigger="load"', text)
    assert part is not None
    elsewhere = html.unescape(part[1])
    assert "1 more request of this session" in master.part(elsewhere).text
    whole = master.get("/ui/sessions/spread?all=1").text
    assert re.findall(r'href="/ui/logs/tg_spread_(\d)"', whole) == ["0", "1"]
    assert "/elsewhere" not in whole
    assert "/elsewhere" not in master.get("/ui/sessions/old").text
    for session, path in (
        (master, "/ui/sessions/long/elsewhere"),
        (log_in(admin.url, str(own["key"])), elsewhere),
    ):
        assert "All of its requests are here." in session.part(path).text
    for query in ("from=x", "to=0001-01-01", "from=2026-02-01&to=2026-01-31"):
        assert master.get(f"/ui/sessions/long?{query}").status_code == 400


def test_session_is_shown_to_those_alone_who_may_see_its_requests(
    admin: RunningAdmin, own: dict[str, object]
) -> None:
    # Given a key without a role, when it looks at sessions, then its own are there and no other.
    session = log_in(admin.url, str(own["key"]))
    listed = re.findall(r'href="/ui/sessions/([a-z0-9-]+)\?from=', session.get("/ui/sessions").text)
    assert listed == ["long"]
    assert session.get("/ui/sessions/long").status_code == 200
    assert session.get("/ui/sessions/small-01").status_code == 404
    assert session.part("/ui/sessions/small-01?after=1~tg_1").status_code == 404
