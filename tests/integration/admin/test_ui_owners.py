"""The dashboard's teams and users: what is shown of them, to whom, and what is made and changed."""

import re
from collections.abc import Iterator
from html import unescape

import pytest

from services.admin.ui.addresses import page_of
from tests.support.admin import MASTER_KEY, RunningAdmin
from tests.support.dashboard import LoggedIn, log_in
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader

HOSTILE = "<img src=x onerror=alert(1)>/..?&\"' " + "x" * 100


@pytest.fixture(scope="module")
def master(
    admin: RunningAdmin, nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LoggedIn]:
    """A session of the master key, over a team with two members and what they spent."""
    for user in ("ana", "bob"):
        body = {"user_id": user, "user_role": "internal_user", "auto_create_key": False}
        assert admin.http.post("/user/new", json=body).status_code == 200
    members = [{"user_id": "ana", "role": "admin"}, {"user_id": "bob", "role": "user"}]
    team = {"team_id": "blue", "max_budget": 10, "members_with_roles": members}
    assert admin.http.post("/team/new", json=team).status_code == 200
    rows = []
    for number, user in enumerate(("ana", "bob")):
        key = admin.generate(key_alias=f"{user}-1", user_id=user, team_id="blue")
        rows.append(
            request_row(
                request_id=f"tg_{user}",
                started_at="2026-11-20 10:00:00",
                key_id=key["key_id"],
                key_alias=f"{user}-1",
                user_id=user,
                team_id="blue",
                cost_usd=f"{number + 1}.500000000000",
            )
        )
    with running_query_reader(tmp_path_factory.mktemp("reader"), nats.url, rows):
        yield log_in(admin.url, MASTER_KEY)


def team_info(admin: RunningAdmin, team_id: str) -> dict[str, object]:
    """Return a team as the API shows it."""
    answer = admin.http.get("/team/info", params={"team_id": team_id})
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()["team_info"]
    return found


def etag_in(page: str) -> str:
    """Return the state that a form is about."""
    found = re.search(r'name="etag" value="(.*?)">', unescape(page))
    assert found is not None, page
    return found[1]


def test_teams_are_listed_and_one_is_shown_with_members_and_spend(master: LoggedIn) -> None:
    page = master.get("/ui/teams").text
    assert 'href="/ui/teams/blue"' in page
    assert "$4.00" in page
    assert "of $10.00" in page
    assert "No team matches" in master.get("/ui/teams", search="red").text
    assert master.get("/ui/teams", page="x").status_code == 400
    team = unescape(master.get("/ui/teams/blue").text)
    for text in ("40% spent", "ana-1", "bob-1", "/ui/logs?team=blue", "Edit ana", "Remove bob"):
        assert text in team
    assert master.get("/ui/teams/none").status_code == 404


def test_team_is_made_changed_blocked_and_deleted(admin: RunningAdmin, master: LoggedIn) -> None:
    # Given the forms of teams, when they are sent, then the team is what they say; a team that
    # changed since the form was shown stays, and one is deleted by its id alone.
    made = master.post(
        "/ui/teams",
        team_id=HOSTILE,
        team_alias=HOSTILE,
        max_budget="100",
        budget_duration="monthly",
        models_of="some",
        models="anthropic-claude",
    )
    path = page_of("team", HOSTILE)
    assert made.headers.get("hx-redirect") == path, made.text
    page = master.get(path)
    assert page.status_code == 200
    assert "<img src=x" not in page.text
    info = team_info(admin, HOSTILE)
    assert info["max_budget"] == 100
    assert info["models"] == ["anthropic-claude"]

    etag = etag_in(master.part(f"{path}/edit").text)
    fields = {"etag": etag, "team_alias": "Red", "max_budget": "", "budget_duration": ""}
    fields |= {"models_of": "all", "rpm_limit": "60", "team_member_budget": "15"}
    assert master.post(f"{path}/edit", **fields).headers.get("hx-redirect") == path
    info = team_info(admin, HOSTILE)
    assert (info["team_alias"], info["max_budget"], info["models"]) == ("Red", None, [])
    assert info["rpm_limit"] == 60
    assert info["team_member_budget"] == 15
    stale = master.post(f"{path}/edit", **{**fields, "team_alias": "Rot"})
    assert stale.status_code == 400
    assert 'role="alert"' in stale.text

    assert master.post(f"{path}/block", want="block").headers["hx-redirect"] == path
    assert team_info(admin, HOSTILE)["blocked"] is True
    assert master.post(f"{path}/delete", typed="Red").status_code == 400
    assert master.post(f"{path}/delete", typed=HOSTILE).headers["hx-redirect"] == "/ui/teams"
    assert "Red" not in master.get("/ui/teams").text
    taken = master.post("/ui/teams", team_id="blue", models_of="all")
    assert taken.status_code == 400
    assert "exists already" in taken.text


def test_members_come_change_and_go(admin: RunningAdmin, master: LoggedIn) -> None:
    def roles() -> dict[str, str]:
        members = team_info(admin, "green")["members_with_roles"]
        assert isinstance(members, list)
        return {each["user_id"]: each["role"] for each in members}

    admin.http.post("/team/new", json={"team_id": "green"})
    path = "/ui/teams/green"
    assert master.post(f"{path}/members", user_id=" , ").status_code == 400
    added = master.post(f"{path}/members", user_id="ana, new@example.com", role="user")
    assert added.headers.get("hx-redirect") == path, added.text
    assert roles() == {"ana": "user", "new@example.com": "user"}
    form = unescape(master.part(f"{path}/members/edit", user_id="ana").text)
    assert 'name="max_budget_in_team"' in form
    wrong = master.post(f"{path}/members/edit", user_id="ana", max_budget_in_team="much")
    assert wrong.status_code == 400
    budget = {"max_budget_in_team": "20", "budget_duration": "monthly"}
    changed = master.post(f"{path}/members/edit", user_id="ana", role="admin", **budget)
    assert changed.headers.get("hx-redirect") == path, changed.text
    assert roles()["ana"] == "admin"
    page = unescape(master.get(path).text)
    assert "of $20.00" in page
    assert "per month" in page
    assert master.get(f"{path}/members/edit", user_id="nobody").status_code == 404
    again = master.post(f"{path}/members", user_id="ana", role="user")
    assert again.status_code == 400
    question = unescape(master.part(f"{path}/members/remove", user_id="new@example.com").text)
    assert "Remove new@example.com" in question
    master.post(f"{path}/members/remove", user_id="new@example.com")
    assert roles() == {"ana": "admin"}


def test_users_are_listed_and_one_is_shown(master: LoggedIn) -> None:
    page = master.get("/ui/users").text
    assert 'href="/ui/users/ana"' in page
    assert "bob" not in master.get("/ui/users", search="ANA").text
    assert "ana" in master.get("/ui/users", role="internal_user", search="ana").text
    assert "No user matches" in master.get("/ui/users", role="proxy_admin").text
    assert master.get("/ui/users", role="x").status_code == 400
    user = unescape(master.get("/ui/users/bob").text)
    for text in ("internal_user", "bob-1", "$2.50", "/ui/logs?user=bob", 'href="/ui/teams/blue"'):
        assert text in user


def test_user_is_made_with_a_key_changed_and_deleted(admin: RunningAdmin, master: LoggedIn) -> None:
    made = master.post(
        "/ui/users",
        user_id="carol@example.com",
        user_role="internal_user",
        models_of="all",
        teams="blue",
        auto_create_key="on",
    )
    key = re.search(r'<pre id="secret"[^>]*>(sk-[^<]+)</pre>', made.text)
    assert key is not None, made.text
    own = log_in(admin.url, key[1])
    path = "/ui/users/carol@example.com"
    assert own.get(path).status_code == 200
    assert "Create key" in own.get(path).text

    def info() -> dict[str, object]:
        answer = admin.http.get("/user/info", params={"user_id": "carol@example.com"})
        found: dict[str, object] = answer.json()["user_info"]
        return found

    assert info()["teams"] == ["blue"]
    etag = etag_in(master.part(f"{path}/edit").text)
    fields = {"etag": etag, "user_alias": "Carol", "user_email": "", "user_role": ""}
    answer = master.post(f"{path}/edit", models_of="all", **fields)
    assert answer.headers.get("hx-redirect") == path, answer.text
    assert (info()["user_alias"], info()["user_role"]) == ("Carol", None)
    # Without the role its key sees itself alone from then on.
    assert own.get(path).status_code == 403
    master.post(f"{path}/block", want="block")
    assert info()["blocked"] is True
    assert own.get("/ui/keys").status_code == 303
    assert master.post(f"{path}/delete", typed="carol").status_code == 400
    gone = master.post(f"{path}/delete", typed="carol@example.com")
    assert gone.headers["hx-redirect"] == "/ui/users"
    assert master.get(path).status_code == 404


def test_who_sees_which_team_and_user(admin: RunningAdmin, master: LoggedIn) -> None:
    # Given a team's admin and a member, when they log in, then the admin manages members and
    # sees all of the team's keys and spend, and the member sees the team and what is its own.
    assert "blue" in master.get("/ui/teams").text
    admin.http.post("/team/new", json={"team_id": "not-theirs"})
    ana = log_in(admin.url, str(admin.generate(key_alias="ana-2", user_id="ana")["key"]))
    page = ana.get("/ui/teams/blue").text
    assert "bob-1" in page
    assert "$2.50" in page
    assert "Add members" in page
    assert "Create key" in page
    assert "/ui/teams/blue/edit" not in page
    assert "not-theirs" not in ana.get("/ui/teams").text
    assert ana.get("/ui/teams/not-theirs").status_code == 403
    assert ana.get("/ui/users/bob").status_code == 403
    assert 'href="/ui/users/ana"' in ana.get("/ui/users").text
    assert ana.post("/ui/users", user_id="by-ana", models_of="all").status_code == 403

    bob = log_in(admin.url, str(admin.generate(key_alias="bob-2", user_id="bob")["key"]))
    assert '<td class="num">1</td>' in bob.get("/ui/teams").text  # its own key of the team
    page = bob.get("/ui/teams/blue").text
    assert "bob-1" in page
    assert "ana-1" not in page
    assert "$1.50" not in page
    assert "Add members" not in page
    wanted = {"user_id": "bob", "role": "admin"}
    assert bob.post("/ui/teams/blue/members/edit", **wanted).status_code == 403
    assert bob.part("/ui/teams/blue/members/edit", user_id="ana").status_code == 403
    assert bob.post("/ui/teams/blue/delete", typed="blue").status_code == 403
    assert team_info(admin, "blue")["team_id"] == "blue"
