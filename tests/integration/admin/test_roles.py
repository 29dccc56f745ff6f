"""Roles at a real admin process: every route is asked for with a key of every role."""

from collections.abc import Iterator

import httpx
import pytest

from tests.contracts.test_roles_documented import COLUMNS, TABLE
from tests.support.admin import RunningAdmin

ROLES = ("proxy_admin", "proxy_admin_viewer", "internal_user", "internal_user_viewer")
Clients = dict[str, httpx.Client]


def client_of(admin: RunningAdmin, **fields: object) -> httpx.Client:
    key = admin.generate(**fields)["key"]
    headers = {"authorization": f"Bearer {key}"}
    return httpx.Client(base_url=admin.url, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def clients(admin: RunningAdmin) -> Iterator[Clients]:
    """Return a client for each column of the table."""
    made: Clients = {}
    for role in ROLES:
        body = {"user_id": f"u-{role}", "user_role": role, "auto_create_key": False}
        assert admin.http.post("/user/new", json=body).json()["user_role"] == role
        made[f"`{role}`"] = client_of(admin, user_id=f"u-{role}")
    made["no role"] = client_of(admin)
    lead = {"user_id": "u-lead", "user_role": "internal_user_viewer", "auto_create_key": False}
    assert admin.http.post("/user/new", json=lead).status_code == 200
    team = {"team_id": "blue", "members_with_roles": [{"user_id": "u-lead", "role": "admin"}]}
    assert admin.http.post("/team/new", json=team).status_code == 200
    made["team admin"] = client_of(admin, user_id="u-lead")
    yield made
    for client in made.values():
        client.close()


@pytest.mark.parametrize("column", list(COLUMNS))
def test_each_role_may_call_what_the_table_says(clients: Clients, column: str) -> None:
    # Given a key of a role, when it asks every route of the table for something that cannot be,
    # then it is refused for its role where the table has a dash, and nowhere else.
    refused: set[str] = set()
    for route in TABLE:
        method, path = route.split(" ")
        path = path.replace("{key}", "key_of_nobody")
        # The body is a list, which no route takes: nothing is changed by what is admitted.
        content = b"[]" if method != "GET" else None
        answer = clients[column].request(
            method, path, content=content, headers={"content-type": "application/json"}
        )
        assert answer.status_code in (200, 400, 403, 404, 503), (route, answer.text)
        if answer.status_code == 403:
            error = answer.json()["error"]
            assert error["type"] == "permission_error"
            assert "needs the master key" in error["message"] or "may not ask" in error["message"]
            assert "the virtual key" in error["message"]
            refused.add(route)
    dashes = {"–"} if column in ("`proxy_admin`", "`proxy_admin_viewer`") else {"–", "analyst"}
    assert refused == {route for route, cells in TABLE.items() if cells[column] in dashes}


def test_role_is_changed_for_all_keys_of_the_user_at_once(
    admin: RunningAdmin, clients: Clients
) -> None:
    # Given a viewer's key, when the role is changed, taken away and the user is blocked, then the
    # next request goes by it; and only admins may change roles.
    body: dict[str, object] = {"user_id": "u-changing", "user_role": "proxy_admin_viewer"}
    made = admin.http.post("/user/new", json=body).json()
    assert made["user_role"] == "proxy_admin_viewer"
    headers = {"authorization": f"Bearer {made['key']}"}

    def statuses() -> tuple[int, int]:
        listed = httpx.get(f"{admin.url}/user/list", headers=headers).status_code
        made_key = httpx.post(f"{admin.url}/key/generate", headers=headers, json={}).status_code
        return listed, made_key

    assert statuses() == (200, 403)
    for role, expected in (("proxy_admin", (200, 200)), (None, (403, 403))):
        changed = clients["`proxy_admin`"].post(
            "/user/update", json={"user_id": "u-changing", "user_role": role}
        )
        assert changed.json()["data"]["user_role"] == role
        assert statuses() == expected
    promote = {"user_id": "u-changing", "user_role": "proxy_admin"}
    assert clients["`proxy_admin_viewer`"].post("/user/update", json=promote).status_code == 403
    assert admin.http.post("/user/update", json={**promote, "blocked": True}).status_code == 200
    assert statuses() == (403, 403)
    wrong = admin.http.post("/user/update", json={**promote, "user_role": "boss"})
    assert wrong.status_code == 400
    assert wrong.json()["error"]["param"] == "user_role"


def test_allowed_routes_limit_what_the_role_allows(admin: RunningAdmin, clients: Clients) -> None:
    # Given keys of a proxy_admin and of nobody, each made with a key_type, when they call routes,
    # then they may what both the role and the type allow, and no spelling of a path helps.
    def status(client: httpx.Client, method: str, path: str) -> int:
        content = b"[]" if method == "POST" else None
        headers = {"content-type": "application/json"}
        return client.request(method, path, content=content, headers=headers).status_code

    routes = (
        ("GET", "/key/list"),
        ("POST", "/key/generate"),
        ("POST", "/key/key_of_nobody/regenerate"),
        ("POST", "/ledger/sql"),
        ("GET", "/models"),
        ("GET", "/key/list/"),
        ("POST", "/key/%67enerate"),
    )
    expected = {
        "llm_api": (403, 403, 403, 403, 200, 403, 403),
        "management": (200, 400, 400, 403, 200, 200, 400),
        "read_only": (200, 403, 403, 403, 200, 200, 403),
        "analyst": (403, 403, 403, 400, 403, 403, 403),
    }
    for key_type, statuses in expected.items():
        fields: dict[str, object] = {"key_type": key_type, "team_id": "t"}
        client = client_of(admin, user_id="u-proxy_admin", **fields)
        assert tuple(status(client, *route) for route in routes) == statuses, key_type
        client.close()
        # What the role does not allow, no type adds.
        client = client_of(admin, **fields)
        assert {status(client, *route) for route in routes[1:3]} == {403}
        client.close()
    aliases = {"fast": "anthropic-claude", "lost": "gpt-4", "hidden": "anthropic-claude"}
    aliased = client_of(admin, aliases=aliases, models=["fast", "lost"])
    assert [each["id"] for each in aliased.get("/models").json()["data"]] == ["fast"]
    assert aliased.get("/key/info").json()["info"]["aliases"] == aliases
    (shown,) = aliased.get("/model/info").json()["data"]
    assert shown["model_name"] == "anthropic-claude"
    aliased.close()
    made = admin.generate(allowed_routes=["/key/info", "analyst_routes"])
    assert made["allowed_routes"] == ["/key/info", "analyst_routes"]
    body = {"key": made["key"], "allowed_routes": ["/key/inf"]}
    wrong = admin.http.post("/key/update", json=body)
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "allowed_routes")
    assert "did you mean /key/info?" in wrong.json()["error"]["message"]
    headers = {"authorization": f"Bearer {made['key']}"}
    assert httpx.get(f"{admin.url}/models", headers=headers).status_code == 403
    freed = admin.http.post("/key/update", json={**body, "allowed_routes": None})
    assert freed.json()["allowed_routes"] == []
    assert httpx.get(f"{admin.url}/models", headers=headers).status_code == 200


def test_dashboard_is_open_to_keys_that_may_call_it(admin: RunningAdmin) -> None:
    # Given keys of an admin with a key_type, when they log in to the dashboard, then those that
    # manage or show may, and one that is limited afterwards is out.
    statuses = {}
    for key_type in ("llm_api", "analyst", "management", "read_only", "default"):
        fields = {"key_type": key_type, "user_id": "u-proxy_admin", "team_id": "t"}
        key = admin.generate(**fields)["key"]
        with httpx.Client(base_url=admin.url) as browser:
            answer = browser.post("/ui/login", data={"key": key})
            statuses[key_type] = answer.status_code
            if answer.status_code == 403:
                assert "limited to other routes" in answer.text
                continue
            assert browser.get("/ui").status_code in (200, 503)  # There is no ledger here.
            changed = admin.http.post("/key/update", json={"key": key, "allowed_routes": ["/v1"]})
            assert changed.status_code == 200
            assert browser.get("/ui").status_code == 403
    refused, admitted = dict.fromkeys(("llm_api", "analyst"), 403), ("management", "read_only")
    assert statuses == {**refused, **dict.fromkeys((*admitted, "default"), 303)}


def test_admins_key_sees_other_keys_and_itself(admin: RunningAdmin, clients: Clients) -> None:
    # Given a key that somebody deleted, when admins ask for it, then they are shown it, and what
    # an admin's key changes is written down as its own.
    other = admin.generate(key_alias="gone-by-an-admin")
    gone = clients["`proxy_admin`"].post("/key/delete", json={"keys": [other["key"]]})
    assert gone.status_code == 200
    own = clients["`proxy_admin`"].get("/key/info").json()["info"]
    for column in ("`proxy_admin`", "`proxy_admin_viewer`"):
        shown = clients[column].get("/key/info", params={"key": str(other["key"])}).json()["info"]
        assert (shown["status"], shown["updated_by"]) == ("deleted", own["key_id"])
    for column in ("`internal_user`", "no role"):
        answer = clients[column].get("/key/info", params={"key": str(other["key"])})
        assert answer.status_code == 403
        assert clients[column].get("/key/info").status_code == 200
