"""Spend as keys of different users see it: their own rows, and nothing of anybody else's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.admin import RunningAdmin
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader

START = "2026-11-01 00:00:00"
USERS = {
    "ann": "internal_user",
    "bob": "internal_user_viewer",
    "lead": "internal_user_viewer",
    "viewer": "proxy_admin_viewer",
    "stranger": "internal_user",
}
PERIOD = {"start_date": "2026-11-20", "end_date": "2026-11-20"}
COSTS = {"ann-blue": 1, "bob-blue": 10, "ann-red": 100, "nobody": 1000}
"""What the one request of each key cost: a sum tells whose rows are in it."""
SEEN = {"ann-blue": 101, "lead": 11, "nobody": 1000, "viewer": 1111, "stranger": 0}
"""What each key sees: ann her own, the lead the team's, a key without a user its own."""


@pytest.fixture(scope="module")
def keys(admin: RunningAdmin) -> dict[str, dict[str, Any]]:
    """The keys by their aliases."""
    for user_id, role in USERS.items():
        body = {"user_id": user_id, "user_role": role, "auto_create_key": False}
        assert admin.http.post("/user/new", json=body).status_code == 200
    members = [{"user_id": "ann"}, {"user_id": "bob"}, {"user_id": "lead", "role": "admin"}]
    team = {"team_id": "blue", "members_with_roles": members}
    assert admin.http.post("/team/new", json=team).status_code == 200
    owners = {
        "ann-blue": {"user_id": "ann", "team_id": "blue"},
        "bob-blue": {"user_id": "bob", "team_id": "blue"},
        "ann-red": {"user_id": "ann", "team_id": "red"},
        "nobody": {},
        "lead": {"user_id": "lead"},
        "viewer": {"user_id": "viewer"},
        "stranger": {"user_id": "stranger"},
    }
    return {name: admin.generate(key_alias=name, **owner) for name, owner in owners.items()}


@pytest.fixture(scope="module", autouse=True)
def _reader(
    keys: dict[str, dict[str, Any]], nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    rows = [
        request_row(
            request_id=f"tg_{name}",
            key_alias=name,
            end_user_id=name,
            cost_usd=str(cost),
            producer_sequence=cost,
            stream_sequence=cost,
            **{field: keys[name][field] for field in ("key_id", "user_id", "team_id")},
        )
        for name, cost in COSTS.items()
    ]
    known = [
        {name: key[name] for name in ("key_id", "key_alias", "key_name", "user_id", "team_id")}
        | {"models": [], "tags": [], "created_at": START, "updated_at": START}
        for key in keys.values()
    ]
    users = [
        {"user_id": user_id, "models": [], "created_at": START, "updated_at": START}
        for user_id in USERS
    ]
    folder: Path = tmp_path_factory.mktemp("reader")
    others = {"keys": known, "users": users}
    with running_query_reader(folder, nats.url, rows, others):
        yield


def ask(admin: RunningAdmin, key: dict[str, Any], path: str, **query: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {key['key']}"}
    return httpx.get(f"{admin.url}{path}", headers=headers, params=query, timeout=60)


@pytest.mark.parametrize("who", sorted(SEEN))
def test_every_report_has_the_own_rows_alone(
    admin: RunningAdmin, keys: dict[str, dict[str, Any]], who: str
) -> None:
    # Given requests of several users and teams, when a key asks each report for the whole, then
    # each adds up to what is the key's own, and no row of another's is in it, in any form.
    def get(path: str, **query: str) -> Any:
        answer = ask(admin, keys[who], path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    seen = SEEN[who]
    names = {name for name, cost in COSTS.items() if seen // cost % 10}
    assert get("/global/spend")["spend"] == seen
    logs = get("/spend/logs")
    assert {each["request_id"] for each in logs} == {f"tg_{name}" for name in names}
    assert sum(day["spend"] for day in get("/spend/logs", **PERIOD)) == seen
    assert get("/spend/logs/v2")["total"] == len(names)
    assert sum(each["spend"] for each in get("/spend/keys")) == seen
    assert sum(each["spend"] for each in get("/spend/users")) == seen - (
        1000 if seen >= 1000 else 0
    )
    users = get("/user/daily/activity", **PERIOD)["metadata"]
    assert (users["total_spend"], users["total_api_keys"]) == (seen, len(names))
    teams = get("/team/daily/activity", **PERIOD)["metadata"]["total_spend"]
    assert teams == seen - (1000 if seen >= 1000 else 0)
    for group_by, total in (("api_key", "total_cost"), ("user", "total_cost")):
        report = get("/global/spend/report", group_by=group_by, **PERIOD)
        assert sum(each[total] for each in report) == seen
    for group_by, parts in (("team", "teams"), ("customer", "customers")):
        report = get("/global/spend/report", group_by=group_by, **PERIOD)
        assert sum(part["total_spend"] for day in report for part in day[parts]) == seen
    for path in ("/spend/logs", "/spend/keys", "/user/daily/activity"):
        table = ask(admin, keys[who], path, format="csv", **PERIOD).text
        assert {name for name in COSTS if name in table} <= names | {who}


def test_listed_keys_and_users_are_the_own_ones(
    admin: RunningAdmin, keys: dict[str, dict[str, Any]]
) -> None:
    # Given keys that spent nothing, when lists are asked for, then the own are in them, no others.
    def listed(who: str, path: str, name: str) -> set[str]:
        return {each[name] for each in ask(admin, keys[who], path).json()}

    assert listed("ann-blue", "/spend/keys", "key_alias") == {"ann-blue", "ann-red"}
    assert listed("lead", "/spend/keys", "key_alias") == {"lead", "ann-blue", "bob-blue"}
    assert listed("nobody", "/spend/keys", "key_alias") == {"nobody"}
    assert listed("stranger", "/spend/users", "user_id") == {"stranger"}
    assert listed("lead", "/spend/users", "user_id") == {"lead", "ann", "bob"}


def test_filter_finds_nothing_of_others(
    admin: RunningAdmin, keys: dict[str, dict[str, Any]]
) -> None:
    # Given filters that name somebody else, when a user asks with them, then there is nothing.
    ann = keys["ann-blue"]
    assert ask(admin, ann, "/spend/logs", user_id="bob").json() == []
    assert ask(admin, ann, "/spend/logs", request_id="tg_bob-blue").json() == []
    assert ask(admin, ann, "/spend/logs", team_id="blue").json()[0]["request_id"] == "tg_ann-blue"
    for path in ("/spend/logs", "/spend/logs/v2", "/user/daily/activity", "/global/spend/report"):
        answer = ask(admin, ann, path, api_key=keys["bob-blue"]["key_id"], **PERIOD)
        assert answer.status_code == 404, path


def test_team_shows_its_spend_to_those_who_manage_it(
    admin: RunningAdmin, keys: dict[str, dict[str, Any]]
) -> None:
    # Given a team, when its admin, a member and a stranger look at it, then the admin sees its
    # spend and all keys, the member the own keys, and the stranger nothing.
    lead = ask(admin, keys["lead"], "/team/info", team_id="blue").json()
    assert lead["team_info"]["total_spend"] == 11
    assert {each["key_alias"] for each in lead["keys"]} == {"ann-blue", "bob-blue"}
    ann = ask(admin, keys["ann-blue"], "/team/info", team_id="blue").json()
    assert (ann["team_info"]["total_spend"], ann["team_info"]["spend"]) == (None, None)
    assert "admins" in ann["team_info"]["spend_error"]
    assert [each["key_alias"] for each in ann["keys"]] == ["ann-blue"]
    assert ask(admin, keys["stranger"], "/team/info", team_id="blue").status_code == 403
    assert ask(admin, keys["stranger"], "/team/list").json() == []
    assert [each["team_id"] for each in ask(admin, keys["bob-blue"], "/team/list").json()] == [
        "blue"
    ]
    own = ask(admin, keys["ann-blue"], "/user/info").json()
    assert (own["user_id"], own["user_info"]["total_spend"]) == ("ann", 101)
    assert own["user_info"]["teams"] == ["blue"]
    assert ask(admin, keys["ann-blue"], "/user/info", user_id="bob").status_code == 403
