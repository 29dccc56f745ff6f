"""The dashboard's routes, each asked by each role for what is another's: nothing shows or changes.

The table is compared with the routes themselves, so a new one needs a decision here.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from services.admin.ui.app import UI_ROUTES
from tests.support.admin import RunningAdmin
from tests.support.dashboard import COOKIE, LoggedIn, log_in
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader

KEY, TEAM, USER = "/keys/{key_id:str}", "/teams/{part:str}", "/users/{part:str}"
DEPLOYMENT = "/models/deployments/{model_id:str}"
REQUEST, SESSION = "/logs/{request_id:str}", "/sessions/{session_id:str}"
PAGES_OF_ALL = "/ /live /logs /logs/more /logs/new /logs/sum /logs.csv /sessions /sessions/more"
MORE_PAGES = "/usage /usage.csv /keys /teams /users /models /budgets /quotas /guardrails"

DECISIONS: dict[str, str] = {
    # Open to all: there is nothing of anyone in it.
    **dict.fromkeys(("GET /login", "POST /login", "GET /assets/{digest:str}/{name:path}"), "open"),
    # Everybody's page with their own rows in it.
    **{f"GET {path}": "own" for path in f"{PAGES_OF_ALL} {MORE_PAGES}".split()},
    # One thing, for those who may see it.
    **{f"GET {path}": "one" for path in (REQUEST, SESSION, KEY, TEAM, USER)},
    # What is not told apart by its answer: the part says why there is nothing.
    f"GET {REQUEST}/prompt": "own",
    f"GET {SESSION}/elsewhere": "own",
    "GET /models/{part:str}": "own",
    "GET /{rest:path}": "own",
    # What a form asks before it changes something that one may see.
    **{f"GET {KEY}/{what}": "one" for what in ("edit", "block", "regenerate", "reset", "delete")},
    # For those who see all, who may ask, who manage something, who manage everything.
    **{f"GET {path}": "sees_all" for path in ("/audit", "/audit.csv", "/health")},
    **{f"GET {path}": "sql" for path in ("/sql", "/sql/{name:str}")},
    "GET /keys/new": "makes_keys",
    **{f"GET {TEAM}/members/{what}": "manages" for what in ("new", "edit", "remove")},
    **{f"GET {path}": "manages" for path in ("/teams/new", "/users/new", "/models/new")},
    **{f"GET {TEAM}/{what}": "manages" for what in ("edit", "block", "delete")},
    **{f"GET {USER}/{what}": "manages" for what in ("edit", "block", "delete")},
    **{f"GET {DEPLOYMENT}/{what}": "manages" for what in ("edit", "delete")},
    # What changes something.
    "POST /logout": "leaves",
    **{f"POST {path}": "changes" for path in ("/keys", "/teams", "/users", "/models")},
    **{f"POST {KEY}/{what}": "changes" for what in ("edit", "block", "regenerate", "reset")},
    f"POST {KEY}/delete": "changes",
    **{f"POST {TEAM}/{what}": "changes" for what in ("edit", "block", "delete", "members")},
    **{f"POST {TEAM}/members/{what}": "changes" for what in ("edit", "remove")},
    **{f"POST {USER}/{what}": "changes" for what in ("edit", "block", "delete")},
    **{f"POST {DEPLOYMENT}/{what}": "changes" for what in ("edit", "delete")},
}
"""Each route with who gets what there: see `_expected`."""

HIDDEN = ("hidden-alias", "hidden-user", "hidden-team", "Hidden Name", "hidden@example.com")
"""What the others must not read, where they did not write it into the address themselves."""
COST = "987.654321"
FIELDS = {
    "user_id": "hidden-user",
    "team_id": "hidden-team",
    "key_alias": "taken-over",
    "team_alias": "taken-over",
    "user_alias": "taken-over",
    "max_budget": "1",
    "role": "admin",
    "want": "block",
    "model_name": "taken-over",
    "model": "anthropic/claude-sonnet-5",
}
Sessions = dict[str, LoggedIn]


@pytest.fixture(scope="module")
def hidden(
    admin: RunningAdmin, nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Make a user with a key, a team and a request; yield what stands for names in paths."""
    user = {"user_id": "hidden-user", "user_alias": "Hidden Name", "auto_create_key": False}
    user["user_email"] = "hidden@example.com"
    assert admin.http.post("/user/new", json=user).status_code == 200
    members = [{"user_id": "hidden-user", "role": "user"}]
    team = {"team_id": "hidden-team", "members_with_roles": members}
    assert admin.http.post("/team/new", json=team).status_code == 200
    owners = {"user_id": "hidden-user", "team_id": "hidden-team"}
    admin.generate(key_alias="hidden-alias", **owners)
    listed = admin.http.get("/key/list", params={"return_full_object": "true"}).json()["keys"]
    key_id = next(each["key_id"] for each in listed if each["key_alias"] == "hidden-alias")
    now = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")[:19]
    row = request_row(
        request_id="tg_hidden",
        **dict.fromkeys(("started_at", "first_byte_at", "ended_at"), now),
        session_id="hidden-session",
        key_id=key_id,
        key_alias="hidden-alias",
        cost_usd=f"{COST}000000",
        **owners,
    )
    with running_query_reader(tmp_path_factory.mktemp("reader"), nats.url, [row]):
        yield {
            "key_id": key_id,
            "request_id": "tg_hidden",
            "session_id": "hidden-session",
            "name": "result.csv",
            "rest": "nothing",
        }


@pytest.fixture(scope="module")
def sessions(admin: RunningAdmin, hidden: dict[str, str]) -> Sessions:
    """Return one who is logged in for each kind of caller; none of them owns what is hidden."""
    made: Sessions = {}
    for role in ("internal_user", "internal_user_viewer", "proxy_admin_viewer"):
        body = {"user_id": f"u-{role}", "user_role": role, "auto_create_key": False}
        assert admin.http.post("/user/new", json=body).status_code == 200
        made[role] = log_in(admin.url, str(admin.generate(user_id=f"u-{role}")["key"]))
    lead = {"user_id": "u-lead", "user_role": "internal_user", "auto_create_key": False}
    assert admin.http.post("/user/new", json=lead).status_code == 200
    team = {"team_id": "blue", "members_with_roles": [{"user_id": "u-lead", "role": "admin"}]}
    assert admin.http.post("/team/new", json=team).status_code == 200
    made["team admin"] = log_in(admin.url, str(admin.generate(user_id="u-lead")["key"]))
    made["no role"] = log_in(admin.url, str(admin.generate()["key"]))
    return made


def _routes() -> Iterator[tuple[str, str]]:
    for handler in UI_ROUTES:
        for path in handler.paths:
            for method in handler.http_methods - {"HEAD", "OPTIONS"}:
                yield str(method), path.rstrip("/") or "/"


def _address(path: str, hidden: dict[str, str]) -> str:
    """Return the address of what is hidden."""
    owner = "hidden-team" if path.startswith("/teams") else "hidden-user"
    values = {"part": owner, "model_id": "no-such", "digest": "0", **hidden}
    filled = re.sub(r"\{(\w+):\w+\}", lambda found: values[found[1]], path)
    return "/ui" if filled == "/" else f"/ui{filled}"


def _query(path: str) -> dict[str, str]:
    if path.startswith("/sql"):
        return {"q": "SELECT key_alias, user_id, cost_usd FROM requests"}
    return {"user_id": "hidden-user"} if "/members/" in path else {"user": "hidden-user"}


def _expected(decision: str, role: str) -> set[int]:
    """Return the statuses with which a role may be answered about what is another's."""
    sees_all = role == "proxy_admin_viewer"
    if decision in ("own", "open"):
        return {200, 204, 404}
    if decision in ("one", "sees_all", "sql"):
        return {200} if sees_all else {403, 404}
    if decision == "makes_keys":
        return {200} if role in ("internal_user", "team admin") else {403}
    return {400, 403, 404} if decision == "changes" else {403}


def _state(admin: RunningAdmin, hidden: dict[str, str]) -> list[Any]:
    """Return everything that is registered, with what may not change."""
    asked = ("/key/list?return_full_object=true&size=100", "/user/list", "/team/list", "/models")
    info = f"/key/info?key={hidden['key_id']}"
    return [admin.http.get(path).json() for path in (*asked, info)]


def test_every_route_has_a_decision() -> None:
    # Given the dashboard's routes, when they are compared with the table, then each stands in it,
    # and nothing else does.
    assert {f"{method} {path}" for method, path in _routes()} == set(DECISIONS)


def test_nobody_is_led_to_the_login_and_gets_nothing(
    admin: RunningAdmin, hidden: dict[str, str]
) -> None:
    # Given no session, a forged one and one that was altered, when any route is asked for, then
    # the login is all that comes.
    cookie = log_in(admin.url, str(admin.generate()["key"])).cookie
    altered = cookie[:-2] + ("AA" if cookie[-2:] != "AA" else "BB")
    with httpx.Client(base_url=admin.url, timeout=60) as client:
        for route, decision in DECISIONS.items():
            if decision == "open":
                continue
            method, path = route.split(" ", 1)
            for forged in (None, "x.y.z", altered):
                headers = {} if forged is None else {"cookie": f"{COOKIE}={forged}"}
                content = {"data": FIELDS} if method == "POST" else {}
                address = _address(path, hidden)
                answer = client.request(method, address, headers=headers, **content)
                assert answer.status_code == 303, (route, forged)
                assert answer.headers["location"].startswith("/ui/login")


@pytest.mark.parametrize(
    "role",
    ["internal_user", "internal_user_viewer", "proxy_admin_viewer", "team admin", "no role"],
)
def test_what_is_anothers_is_neither_shown_nor_changed(
    admin: RunningAdmin, sessions: Sessions, hidden: dict[str, str], role: str
) -> None:
    # Given somebody of a role, when each route is asked for what is another's, the forms with
    # their token and with the words to be typed, then the answer is the one that was decided,
    # nothing of the other stands in it, and everything registered is as before.
    one = sessions[role]
    before, shown = _state(admin, hidden), set[str]()
    for route, decision in DECISIONS.items():
        method, path = route.split(" ", 1)
        address = _address(path, hidden)
        if decision in ("open", "leaves"):
            continue
        if method == "GET":
            answer = one.get(address, **_query(path))
        else:
            assert one.send("POST", address, data=FIELDS).status_code == 403, route
            typed = "hidden-alias" if path.startswith(KEY) else address.split("/")[3:4]
            answer = one.post(address, **FIELDS, typed="".join(typed))
        assert answer.status_code in _expected(decision, role), (route, answer.status_code)
        if method == "GET":
            asked = {text for text in HIDDEN if text in str(answer.url)}
            if {text for text in (*HIDDEN, COST) if text in answer.text} - asked:
                shown.add(route)
    assert _state(admin, hidden) == before
    if role != "proxy_admin_viewer":
        assert not shown
    else:
        # What is hidden from the others is there to be seen.
        assert {f"GET {KEY}", f"GET {REQUEST}", "GET /logs.csv", "GET /sql/{name:str}"} <= shown


def test_session_is_none_at_the_api(admin: RunningAdmin, sessions: Sessions) -> None:
    # Given the cookie of a session, when the management API is asked with it, then it counts for
    # nothing there: forms of other sites reach no route of it.
    for method, path in (("GET", "/key/list"), ("POST", "/key/generate"), ("GET", "/spend/logs")):
        assert sessions["proxy_admin_viewer"].send(method, path).status_code == 401, path
