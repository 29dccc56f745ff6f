"""Usage, budgets, quotas, guardrails, audit and health: what they show, and to whom."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.admin import MASTER_KEY, RunningAdmin
from tests.support.dashboard import LoggedIn, log_in
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader

HOSTILE = "<script>alert(1)</script>"
NOW = datetime.now(UTC)
PAGES = ("usage", "budgets", "quotas", "guardrails", "audit", "health")


def minutes_ago(minutes: int) -> str:
    return (NOW - timedelta(minutes=minutes)).strftime("%Y-%m-%d %H:%M:%S")


@pytest.fixture(scope="module")
def keys(admin: RunningAdmin) -> dict[str, dict[str, Any]]:
    """Three keys: anna's and ben's, who have roles, and one that has nobody."""
    for user in ("anna", "ben"):
        body = {"user_id": user, "user_role": "internal_user", "max_budget": 50}
        assert admin.http.post("/user/new", json={**body, "auto_create_key": False}).is_success
    team = {"team_id": "blue", "team_alias": "Blue", "max_budget": 8}
    members = [{"user_id": "anna", "role": "user"}, {"user_id": "ben", "role": "admin"}]
    assert admin.http.post("/team/new", json={**team, "members_with_roles": members}).is_success
    return {
        "anna": admin.generate(
            key_alias="anna-laptop", user_id="anna", max_budget=1, budget_duration="1mo"
        ),
        "ben": admin.generate(key_alias="ben-laptop", user_id="ben", max_budget=10),
        "lonely": admin.generate(key_alias="lonely"),
    }


@pytest.fixture(scope="module", autouse=True)
def _reader(
    admin: RunningAdmin,
    nats: NatsServer,
    keys: dict[str, dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    owners = {name: str(key["key_id"]) for name, key in keys.items()}
    rows = [
        request_row(
            request_id=f"tg_{number}",
            started_at=minutes_ago(number),
            key_id=owners[owner],
            key_alias=f"{owner}-laptop",
            user_id=owner if owner != "lonely" else None,
            model=HOSTILE if number == 1 else "claude-sonnet-5",
            cost_usd="0.750000000001",
        )
        for number, owner in enumerate(["anna", "ben", "anna", "lonely"], start=1)
    ]
    findings = [
        {
            "found_at": minutes_ago(number),
            "request_id": f"tg_{number}",
            "guardrail": "secrets",
            "action": "mask" if number % 2 else "block",
            "rule": f"rule-{number}",
            "hits": 2,
            "key_id": owners["ben" if number == 2 else "anna"],
            "key_alias": "ben-laptop" if number == 2 else "anna-laptop",
            "user_id": "ben" if number == 2 else "anna",
            "stream_sequence": number,
            "producer_sequence": number,
        }
        for number in range(1, 60)
    ]
    seats = [
        {
            "observed_at": minutes_ago(number),
            "seat": f"seat-of-{user}-0123456789",
            "billing": "subscription",
            "key_id": owners[user],
            "user_id": user,
            "status": "allowed_warning",
            "five_hour_utilization": "0.91",
            "five_hour_resets_at": (NOW + timedelta(hours=2)).strftime("%Y-%m-%d %H:%M:%S"),
            "seven_day_utilization": "0.4",
            "headers": "{}",
        }
        for number, user in enumerate(("anna", "ben"))
    ]
    changes = [
        {
            "stream_sequence": number,
            "changed_at": minutes_ago(number),
            "object_type": "key",
            "object_id": owners["anna"],
            "object_name": HOSTILE if number == 1 else f"key-{number}",
            "action": "updated",
            "changed_by": owners["ben"],
            "client_address": "192.0.2.7",
            "route": "POST /key/update",
            "changed_fields": ["max_budget_usd"],
            "before": '{"max_budget_usd":"5"}',
            "after": f'{{"max_budget_usd":"{number}"}}',
            "state": "{}",
        }
        for number in range(1, 60)
    ]
    told = [
        {
            "stream_sequence": number,
            "event": event,
            "told_at": minutes_ago(60 - number),
            "scope": "key",
            "scope_id": owners[user],
            "name": f"{user}-laptop",
            "spend_usd": "1.5",
            "max_budget_usd": "1",
            "resets_at": (NOW + timedelta(days=days)).strftime("%Y-%m-%d %H:%M:%S"),
            "budget": "max_budget",
        }
        for number, (event, user, days) in enumerate(
            (
                ("exceeded", "ben", -1),
                ("exceeded", "lonely", 5),
                ("cleared", "lonely", 5),
                ("exceeded", "anna", 5),
            )
        )
    ]
    told.append(
        {
            **told[-1],
            "stream_sequence": 9,
            "event": "warned",
            "scope": "team",
            "scope_id": "blue",
            "name": "Blue",
            "spend_usd": "6.64",
            "max_budget_usd": "8",
            "threshold": "80_percent",
        }
    )
    others = {
        "budget_events": told,
        "guardrail_events": findings,
        "quota_observations": seats,
        "registry_changes": changes,
    }
    with running_query_reader(tmp_path_factory.mktemp("reader"), nats.url, rows, others):
        yield


@pytest.fixture(scope="module")
def master(admin: RunningAdmin) -> LoggedIn:
    return log_in(admin.url, MASTER_KEY)


@pytest.fixture(scope="module")
def anna(admin: RunningAdmin, keys: dict[str, dict[str, Any]]) -> LoggedIn:
    return log_in(admin.url, str(keys["anna"]["key"]))


def test_overview_names_what_needs_a_look_and_nothing_that_is_over(
    master: LoggedIn, anna: LoggedIn
) -> None:
    # Given a budget that is spent, one whose window is over, one that was raised, and seats near
    # their wall, when the overview is opened, then what still holds is named; to anna what is hers.
    page = master.get("/ui").text
    listed = page.partition('<ul class="matters">')[2].partition("</ul>")[0]
    assert "budget of $1.00 used up" in listed
    assert listed.count("used up") == 1
    assert listed.count("91% of the 5-hour quota") == 2
    assert "requests blocked today" in listed
    own = anna.get("/ui").text.partition('<ul class="matters">')[2].partition("</ul>")[0]
    assert "used up" in own
    assert own.count("5-hour quota") == 1


def test_usage_is_split_by_what_one_chooses_and_comes_as_csv(master: LoggedIn) -> None:
    # Given requests of three keys, when usage is split by key, then each has its sum, exact on
    # hover; the file has the same, to the last digit.
    page = master.get("/ui/usage", by="key", days="7").text
    assert "$1.500000000002" in page
    assert page.count('<th scope="row" class="clip">') == 3
    text = master.get("/ui/usage.csv", by="key", days="7")
    assert text.headers["content-disposition"].startswith('attachment; filename="usage-by-key-')
    rows = list(csv.DictReader(io.StringIO(text.text)))
    sums = {row["key"]: row["cost_usd"] for row in rows}
    assert sums["anna-laptop"] == "1.500000000002"
    assert sums["ben-laptop"] == "0.750000000001"


def test_bad_period_is_told_and_the_usual_one_shown(master: LoggedIn) -> None:
    assert "Dates are written like" in master.get("/ui/usage", **{"from": "yesterday"}).text
    reversed_days = {"from": "2026-02-01", "to": "2026-01-01"}
    assert "after the last" in master.get("/ui/usage", **reversed_days).text
    assert "days is a number" in master.get("/ui/usage", days="-3").text
    for query in ({"by": "nothing"}, {"metric": "x"}, {"sort": "1; DROP", "order": "x"}):
        assert master.get("/ui/usage", **query).status_code == 200


def test_budget_that_is_spent_stands_first_with_what_is_left(master: LoggedIn) -> None:
    # Given a key that spent more than its budget and others that did not, when budgets are looked
    # at, then it is the first, and marked; a search finds the others.
    page = master.get("/ui/budgets").text
    assert "used up" in page
    assert page.index("anna-laptop") < page.index("ben-laptop")
    assert "150%" in page
    assert page.count(">free again<") == 1
    listed = master.get("/ui/budgets", search="BEN-L").text.partition(">Alerts<")[0]
    assert "ben-laptop" in listed
    assert "anna-laptop" not in listed
    assert "No budget matches" in master.get("/ui/budgets", search="zzz").text


def test_seat_near_its_wall_shows_its_course(master: LoggedIn) -> None:
    page = master.get("/ui/quotas").text
    assert "91%" in page
    assert "nearly" in page
    course = master.get("/ui/quotas", seat="seat-of-anna-0123456789").text
    assert "the last 7 days" in course
    assert '"values":[91.0]' in course


def test_findings_are_filtered_and_paged_to_their_end(master: LoggedIn) -> None:
    # Given more findings than a page holds, when one goes on to older ones, then each comes once.
    first = master.get("/ui/guardrails").text
    assert first.count(">Open</a>") == 50
    older = first.partition('<p class="more"><a class="button" href="')[2].partition('"')[0]
    second = master.get(older.replace("&amp;", "&")).text
    assert second.count(">Open</a>") == 9
    assert "Older findings" not in second
    blocked = master.get("/ui/guardrails", action="block", key="ben-laptop").text
    assert blocked.count(">Open</a>") == 1
    assert "No findings" in master.get("/ui/guardrails", rule="no-such-rule").text


def test_changes_tell_who_and_what_and_go_on_as_one_scrolls(master: LoggedIn) -> None:
    # Given changes, when they are looked at, then each names its maker and its values, and the
    # part that is fetched next goes on after the last one.
    page = master.get("/ui/audit")
    assert page.text.count("POST /key/update") == 50
    assert "ben-laptop" in page.text
    assert HOSTILE not in page.text
    older = page.text.partition('<tr hx-get="')[2].partition('"')[0].replace("&amp;", "&")
    part = master.part(older).text
    assert part.count("POST /key/update") == 9
    assert "<html" not in part
    assert "No change matches" in master.get("/ui/audit", action="deleted").text
    assert master.get("/ui/audit.csv", object="key").text.count("\n") == 60
    assert 'class="alert warn"' in master.get("/ui/audit", **{"from": "x"}).text


def test_health_says_what_is_wrong_and_what_to_do(master: LoggedIn) -> None:
    # Given an admin service whose ledger has no books, when its health is asked, then that is
    # told, and the process itself runs.
    page = master.get("/ui/health").text
    assert "admin" in page
    assert "does not answer" in page
    assert "<html" not in master.part("/ui/health").text


def test_each_sees_what_is_theirs(
    admin: RunningAdmin, anna: LoggedIn, keys: dict[str, dict[str, Any]]
) -> None:
    # Given a user's key, when it opens the pages, then others' rows are in none of them; what is
    # for those who see all is refused, and not in the menu.
    for name in PAGES:
        answer = anna.get(f"/ui/{name}")
        if name in ("audit", "health"):
            assert answer.status_code == 403
            assert f'href="/ui/{name}"' not in answer.text
            assert 'href="/ui/usage"' in answer.text
            continue
        assert answer.status_code == 200
        assert "ben-laptop" not in answer.text
        assert "seat-of-ben" not in answer.text
    assert "ben" not in anna.get("/ui/usage.csv", by="user", days="7").text
    assert anna.get("/ui/audit.csv").status_code == 403
    assert "No quota is known" not in anna.get("/ui/quotas").text
    assert "course-title" not in anna.get("/ui/quotas", seat="seat-of-ben-0123456789").text
    assert anna.get("/ui/guardrails").text.count(">Open</a>") == 50
    lonely = log_in(admin.url, str(keys["lonely"]["key"]))
    assert "anna" not in lonely.get("/ui/usage", by="user").text
    assert "No quota is known" in lonely.get("/ui/quotas").text


@pytest.mark.parametrize("name", PAGES)
def test_names_are_text_on_every_page(master: LoggedIn, name: str) -> None:
    assert "<script>alert" not in master.get(f"/ui/{name}").text


def test_alerts_of_a_team_are_for_those_who_manage_it(
    admin: RunningAdmin, anna: LoggedIn, keys: dict[str, dict[str, Any]]
) -> None:
    # Given a team whose budget is nearly spent, when a member and its manager look, then the
    # manager is told of it, on the overview and among the alerts, and the member sees none of it.
    ben = log_in(admin.url, str(keys["ben"]["key"]))
    assert "83% of $8.00 spent" in ben.get("/ui").text
    assert "$6.64" in ben.get("/ui/budgets").text
    assert "of $8.00 spent" not in anna.get("/ui").text
    assert "$6.64" not in anna.get("/ui/budgets").text
