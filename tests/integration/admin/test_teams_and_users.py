"""Teams and users through the management API of a real admin process."""

import asyncio
from typing import Any

import httpx
import pytest

from schemas.events import TeamDeleted, UserCreated, decode_team_event, decode_user_event
from schemas.streams import team_subject, user_subject
from services.runtime.bus import Bus
from tests.support.admin import MASTER_KEY, RunningAdmin
from tests.support.nats import NatsServer

HEADERS = {"authorization": f"Bearer {MASTER_KEY}"}


def post(admin: RunningAdmin, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{admin.url}{path}", headers=HEADERS, json=body)


def get(admin: RunningAdmin, path: str, **query: str) -> Any:
    answer = httpx.get(f"{admin.url}{path}", headers=HEADERS, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def stored(url: str, subject: str) -> bytes:
    bus = await Bus.connect(url, "admin")
    try:
        async for batch in bus.follow("REGISTRY", last_per_subject=True):
            for message in batch.messages:
                if message.subject == subject:
                    return message.payload
            assert batch.pending > 0, "there is no such subject"
    finally:
        await bus.close()
    raise AssertionError("the stream ended")


def test_team_is_made_changed_blocked_and_deleted_with_its_keys(
    admin: RunningAdmin, nats: NatsServer
) -> None:
    # Given a team whose id holds what no subject may hold, when it is made, changed and blocked,
    # then each answer shows its new state, and it is told with its keys;
    team_id = "b.l u*e>é"
    made = post(admin, "/team/new", team_id=team_id, team_alias="Team Blue", metadata={"a": 1})
    assert made.status_code == 200, made.text
    assert (made.json()["team_id"], made.json()["blocked"]) == (team_id, False)
    key = admin.generate(team_id=team_id)
    limited = post(admin, "/team/update", team_id=team_id, models=["gpt-*", "gpt-*"]).json()
    assert limited["data"]["models"] == ["gpt-*"]
    headers = {"authorization": f"Bearer {key['key']}"}
    assert httpx.get(f"{admin.url}/models", headers=headers).json()["data"] == []
    assert httpx.get(f"{admin.url}/model/info", headers=headers).json()["data"] == []
    free = {"team_id": team_id, "team_alias": None, "models": ["all-proxy-models"]}
    changed = post(admin, "/team/update", **free).json()
    assert changed["data"]["models"] == []
    assert len(httpx.get(f"{admin.url}/models", headers=headers).json()["data"]) == 1
    assert (changed["team_id"], changed["data"]["team_alias"]) == (team_id, None)
    assert changed["data"]["metadata"] == {"a": 1}
    assert post(admin, "/team/block", team_id=team_id).json()["blocked"] is True
    info = get(admin, "/team/info", team_id=team_id)
    assert (info["team_info"]["blocked"], len(info["keys"])) == (True, 1)
    analyst = admin.generate(team_id=team_id, analyst="team")
    headers = {"authorization": f"Bearer {analyst['key']}"}
    asked = httpx.post(f"{admin.url}/ledger/sql", headers=headers, json={"query": "SELECT 1"})
    assert (asked.status_code, "is blocked" in asked.text) == (403, True)
    assert post(admin, "/team/unblock", team_id=team_id).json()["blocked"] is False
    assert team_id in [team["team_id"] for team in get(admin, "/team/list")]

    # when it is deleted, then its key is too, it is told no more, and its id is not given again.
    gone = post(admin, "/team/delete", team_ids=[team_id]).json()
    assert gone == {"deleted_teams": [team_id], "deleted_keys": 2}
    assert get(admin, "/key/info", key=str(key["key"]))["info"]["status"] == "deleted"
    assert team_id not in [team["team_id"] for team in get(admin, "/team/list")]
    assert post(admin, "/team/new", team_id=team_id).status_code == 409
    event = decode_team_event(asyncio.run(stored(nats.url, team_subject(team_id))))
    assert isinstance(event, TeamDeleted)
    assert (event.data.team_id, event.data.deleted) == (team_id, True)


def test_user_is_made_with_a_key_listed_and_deleted(admin: RunningAdmin, nats: NatsServer) -> None:
    # Given LiteLLM's request for a user, when it is sent, then a key of the user's comes back;
    user_id = "alice@example.com"
    made = post(admin, "/user/new", user_id=user_id, user_email="Alice@Example.com").json()
    assert (made["user_id"], made["key"][:3], made["user_role"]) == (user_id, "sk-", None)
    event = decode_user_event(asyncio.run(stored(nats.url, user_subject(user_id))))
    assert isinstance(event, UserCreated)
    own = get(admin, "/user/info", user_id=user_id)
    assert [key["token"] for key in own["keys"]] == [made["token"]]
    assert own["keys"][0]["user_id"] == user_id

    # when a second is made without one, then there is none, and the list finds each;
    bare = post(admin, "/user/new", auto_create_key=False).json()
    assert (bare["key"], bare["token"]) == (None, None)
    found = get(admin, "/user/list", user_email="alice@")
    assert ([user["user_id"] for user in found["users"]], found["total"]) == ([user_id], 1)
    assert get(admin, "/user/list", page_size="1")["total_pages"] == 2

    # when the first is blocked and deleted, then the user is gone and the key with it.
    blocked = post(admin, "/user/update", user_id=user_id, blocked=True).json()
    assert blocked["data"]["blocked"] is True
    gone = post(admin, "/user/delete", user_ids=[user_id]).json()
    assert gone == {"deleted_users": [user_id], "deleted_keys": 1}
    assert post(admin, "/user/update", user_id=user_id).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/team/new", {"tpd_limit": 5}, 400, "tpd_limit"),
        ("/team/new", {"members_with_roles": [{"role": "admin"}]}, 400, "user_id"),
        ("/team/new", {"team_alais": "x"}, 400, "team_alais"),
        ("/team/new", {"metadata": {"a": "x" * 17_000}}, 400, "metadata"),
        ("/team/update", {"team_id": "nobody"}, 404, "team_id"),
        ("/team/delete", {"team_ids": []}, 400, "team_ids"),
        ("/team/block", {"team_id": "nobody"}, 404, "team_id"),
        ("/user/new", {"user_role": "boss"}, 400, "user_role"),
        ("/user/delete", {"user_ids": ["nobody"]}, 404, "user_id"),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_its_field(
    admin: RunningAdmin, path: str, body: dict[str, Any], status: int, param: str
) -> None:
    # Given a request that asks for what is not there, when it is sent, then the error names it.
    answer = post(admin, path, **body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


@pytest.mark.parametrize("kind", ["key", "team", "user"])
def test_rate_limits_are_set_changed_and_taken_away_in_litellms_shapes(
    admin: RunningAdmin, kind: str
) -> None:
    # Given all rate limits, when something is made with them, then they are shown as given;
    given = {
        "rpm_limit": 60,
        "tpm_limit": 100_000,
        "max_parallel_requests": 4,
        "model_rpm_limit": {"claude-opus-*": 5},
        "model_tpm_limit": {"anthropic-claude": 50_000},
    }
    made = post(admin, f"/{kind}/{'generate' if kind == 'key' else 'new'}", **given).json()
    assert given.items() <= made.items()
    # and when one is changed and others are taken away, then the rest stays.
    name = "key" if kind == "key" else f"{kind}_id"
    changes = {"rpm_limit": 7, "tpm_limit": None, "model_rpm_limit": None}
    assert post(admin, f"/{kind}/update", **{name: made[name]}, **changes).status_code == 200
    info = get(admin, f"/{kind}/info", **{name: made[name]})
    shown = info["info" if kind == "key" else f"{kind}_info"]
    assert (given | changes | {"model_rpm_limit": {}}).items() <= shown.items()


def test_virtual_key_manages_no_team_and_no_user(admin: RunningAdmin) -> None:
    # Given a virtual key, when it asks any of the routes, then it is refused.
    headers = {"authorization": f"Bearer {admin.generate()['key']}"}
    for path in ("/team/new", "/team/delete", "/user/new", "/user/update"):
        assert httpx.post(f"{admin.url}{path}", headers=headers, json={}).status_code == 403
    for path in ("/team/list", "/user/list", "/team/info?team_id=x", "/user/info"):
        assert httpx.get(f"{admin.url}{path}", headers=headers).status_code == 403
