"""Members of teams, and what a team's admin and a user may do to keys, at a real admin process."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.support.admin import RunningAdmin


def post(admin: RunningAdmin, path: str, by: Any = None, /, **body: Any) -> httpx.Response:
    """Send a body with the key `by`, or with the master key."""
    if by is None:
        return admin.http.post(path, json=body)
    headers = {"authorization": f"Bearer {by}"}
    return httpx.post(f"{admin.url}{path}", headers=headers, json=body, timeout=60)


def user_with_key(admin: RunningAdmin, user_id: str, role: str | None, **key: Any) -> str:
    body = {"user_id": user_id, "user_role": role, "auto_create_key": False}
    assert post(admin, "/user/new", **body).status_code == 200
    return str(admin.generate(user_id=user_id, **key)["key"])


@pytest.fixture(scope="module")
def lead(admin: RunningAdmin) -> str:
    """The key of the admin of the team `crew`, in which `sailor` is a member, and `captain`."""
    key = user_with_key(admin, "lead", "internal_user_viewer")
    assert post(admin, "/user/new", user_id="captain", user_role="proxy_admin").status_code == 200
    members = [{"user_id": "lead", "role": "admin"}, {"user_id": "captain"}]
    made = post(admin, "/team/new", team_id="crew", members_with_roles=members).json()
    assert [each["role"] for each in made["members_with_roles"]] == ["admin", "user"]
    return key


def test_members_are_added_changed_and_removed_with_their_keys(
    admin: RunningAdmin, lead: str
) -> None:
    # Given LiteLLM's requests, when a team's admin adds a member by a mail address that nobody
    # has, then a user without a role and a key is made;
    added = post(
        admin,
        "/team/member_add",
        lead,
        team_id="crew",
        member={"role": "user", "user_email": "Sailor@example.com"},
    )
    assert added.status_code == 200, added.text
    (user,) = added.json()["updated_users"]
    assert (user["user_email"], user["user_role"], user["teams"]) == (
        "Sailor@example.com",
        None,
        ["crew"],
    )
    user_id = user["user_id"]
    (place,) = added.json()["updated_team_memberships"]
    assert (place["team_id"], place["user_id"]) == ("crew", user_id)
    assert place["litellm_budget_table"] is None
    assert added.json()["members_with_roles"][-1] == {
        "user_id": user_id,
        "user_email": "Sailor@example.com",
        "role": "user",
    }
    # when the same is added again, then it is refused; when the role is changed, it is so;
    again = {"team_id": "crew", "member": [{"user_email": "sailor@EXAMPLE.com"}]}
    assert post(admin, "/team/member_add", lead, **again).status_code == 400
    email = {"team_id": "crew", "user_email": "sailor@example.com"}
    changed = post(admin, "/team/member_update", lead, role="admin", **email).json()
    assert (changed["user_id"], changed["role"]) == (user_id, "admin")
    # when the member is removed, then the keys in the team go, and those elsewhere stay.
    inside = admin.generate(user_id=user_id, team_id="crew")["key_id"]
    outside = admin.generate(user_id=user_id)["key_id"]
    gone = post(admin, "/team/member_delete", lead, **email).json()
    assert gone["deleted_keys"] == 1
    assert user_id not in [each["user_id"] for each in gone["members_with_roles"]]
    status = {
        key_id: admin.http.get("/key/info", params={"key": str(key_id)}).json()["info"]["status"]
        for key_id in (inside, outside)
    }
    assert status == {inside: "deleted", outside: "active"}
    assert post(admin, "/team/member_delete", lead, **email).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/team/member_add", {"team_id": "none", "member": {"user_id": "x"}}, 404, "team_id"),
        ("/team/member_add", {"team_id": "crew", "member": {}}, 400, "user_id"),
        ("/team/member_add", {"team_id": "crew", "member": {"role": "boss"}}, 400, "member"),
        (
            "/team/member_add",
            {"team_id": "crew", "member": [{"user_id": "x"}, {"user_id": "x"}]},
            400,
            "member",
        ),
        ("/team/member_update", {"team_id": "crew", "user_id": "x"}, 404, "user_id"),
        (
            "/team/member_update",
            {"team_id": "crew", "user_id": "lead", "rpm_limit": 5},
            400,
            "rpm_limit",
        ),
        ("/user/new", {"user_id": "y", "teams": ["none"]}, 404, "team_id"),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_its_field(
    admin: RunningAdmin, lead: str, path: str, body: dict[str, Any], status: int, param: str
) -> None:
    # Given a request for what cannot be, when it is sent, then the error names the field.
    answer = post(admin, path, **body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text
    assert lead


def test_users_join_and_leave_teams_with_their_own_records(admin: RunningAdmin) -> None:
    # Given a team, when a user is made in it and deleted, then the team has the user and has not.
    assert post(admin, "/team/new", team_id="yard").status_code == 200
    made = post(admin, "/user/new", user_id="smith", teams=["yard"], auto_create_key=False).json()
    assert made["teams"] == ["yard"]

    def members() -> list[str]:
        team = admin.http.get("/team/info", params={"team_id": "yard"}).json()["team_info"]
        return [each["user_id"] for each in team["members_with_roles"]]

    assert members() == ["smith"]
    (team,) = admin.http.get("/user/info", params={"user_id": "smith"}).json()["teams"]
    assert (team["team_id"], team["members_with_roles"][0]["user_id"]) == ("yard", "smith")
    assert post(admin, "/user/delete", user_ids=["smith"]).status_code == 200
    assert members() == []
    back = post(admin, "/team/member_add", team_id="yard", member={"user_id": "smith"})
    assert back.status_code == 409


def test_changes_of_members_at_the_same_moment_are_all_made(admin: RunningAdmin) -> None:
    # Given a team, when eight members are added at once, then it has all eight.
    assert post(admin, "/team/new", team_id="rush").status_code == 200

    async def add_all() -> list[int]:
        async with httpx.AsyncClient(
            base_url=admin.url, headers=admin.http.headers, timeout=60
        ) as client:
            answers = await asyncio.gather(
                *(
                    client.post(
                        "/team/member_add",
                        json={"team_id": "rush", "member": {"user_id": f"rush-{number}"}},
                    )
                    for number in range(8)
                )
            )
        return [answer.status_code for answer in answers]

    assert asyncio.run(add_all()) == [200] * 8
    team = admin.http.get("/team/info", params={"team_id": "rush"}).json()["team_info"]
    assert len(team["members_with_roles"]) == 8


def test_team_admin_manages_the_keys_of_the_team_and_no_others(
    admin: RunningAdmin, lead: str
) -> None:
    # Given the key of a team's admin, when it makes keys, then they are of the team, for members;
    def make(**fields: Any) -> httpx.Response:
        return post(admin, "/key/generate", lead, **fields)

    made = make(team_id="crew", key_alias="crew-bot").json()
    assert (made["team_id"], made["user_id"]) == ("crew", None)
    assert make().status_code == 403
    assert make(team_id="other").json()["error"]["param"] == "team_id"
    assert make(team_id="crew", user_id="outsider").json()["error"]["param"] == "user_id"
    for field, value in {"analyst": "all", "store_prompts": False, "names_end_users": True}.items():
        refused = make(team_id="crew", **{field: value})
        assert (refused.status_code, refused.json()["error"]["param"]) == (403, field)
    assert make(team_id="crew", analyst="team").status_code == 200
    # when it changes, blocks and deletes them, then it may; another team's are not there.
    other = admin.generate(team_id="other")["key"]
    for path in ("/key/block", "/key/unblock", "/key/update", "/key/regenerate"):
        assert post(admin, path, lead, key=made["key_id"]).status_code == 200, path
        assert post(admin, path, lead, key=other).status_code == 404, path
    assert post(admin, "/key/delete", lead, keys=[other]).status_code == 404
    moved = post(admin, "/key/update", lead, key=made["key_id"], team_id=None)
    assert moved.status_code == 403
    assert post(admin, "/key/delete", lead, keys=[made["key_id"]]).status_code == 200
    refused = post(admin, "/team/member_add", lead, team_id="yard", member={"user_id": "lead"})
    assert refused.status_code == 403
    assert post(admin, "/team/update", lead, team_id="crew", max_budget=1).status_code == 403


def test_whoever_learns_a_users_key_does_not_get_the_users_role(
    admin: RunningAdmin, lead: str
) -> None:
    # Given a team whose members include a proxy_admin, when the team's admin makes a key for that
    # user, regenerates one of the user's, or gives the user a key, then none has the user's role.
    def is_admin(key: Any) -> bool:
        headers = {"authorization": f"Bearer {key}"}
        return httpx.get(f"{admin.url}/user/list", headers=headers).status_code == 200

    made = post(admin, "/key/generate", lead, team_id="crew", user_id="captain").json()
    assert not is_admin(made["key"])
    own = admin.generate(team_id="crew", user_id="captain")
    assert is_admin(own["key"])
    again = post(admin, "/key/regenerate", lead, key=own["key_id"], grace_period="1h").json()
    assert not is_admin(again["key"])
    assert not is_admin(own["key"])
    bot = post(admin, "/key/generate", lead, team_id="crew").json()
    given = post(admin, "/key/update", lead, key=bot["key"], user_id="captain")
    assert given.status_code == 200
    assert not is_admin(bot["key"])


def test_user_manages_own_keys_within_what_admins_set(admin: RunningAdmin) -> None:
    # Given an internal user with a key that an admin made, when the user makes keys, then they
    # are the user's own;
    key = user_with_key(admin, "dora", "internal_user", max_budget=5, key_alias="dora-1")
    made = post(admin, "/key/generate", key, key_alias="dora-2", max_budget=3).json()
    assert (made["user_id"], made["max_budget"]) == ("dora", 3)
    for field, value in {"user_id": "lead", "team_id": "crew", "analyst": "all"}.items():
        refused = post(admin, "/key/generate", key, **{field: value})
        assert (refused.status_code, refused.json()["error"]["param"]) == (403, field)
    # when the user changes keys, then limits are the user's to change on own-made keys alone,
    # until an admin has changed them;
    assert post(admin, "/key/update", key, key=made["key"], max_budget=4).status_code == 200
    own = post(admin, "/key/update", key, key=key, metadata={"laptop": 1}, tags=["x"])
    assert own.status_code == 200, own.text
    refused = post(admin, "/key/update", key, key=key, max_budget=500)
    assert (refused.status_code, refused.json()["error"]["param"]) == (403, "max_budget")
    assert post(admin, "/key/update", key=made["key"], max_budget=1).status_code == 200
    assert post(admin, "/key/update", key, key=made["key"], max_budget=4).status_code == 403
    # when an admin blocks one, then the user does not unblock it; and what is listed is own.
    assert post(admin, "/key/block", key=made["key"]).status_code == 200
    assert post(admin, "/key/unblock", key, key=made["key"]).status_code == 403
    assert post(admin, "/key/update", key, key=made["key"], blocked=False).status_code == 403
    headers = {"authorization": f"Bearer {key}"}
    listed = httpx.get(
        f"{admin.url}/key/list", headers=headers, params={"return_full_object": "true"}
    ).json()
    assert {each["key_alias"] for each in listed["keys"]} == {"dora-1", "dora-2"}
    new = post(admin, "/key/regenerate", key, key=key).json()["key"]
    assert post(admin, "/key/delete", new, keys=[made["key_id"]]).status_code == 200
    assert post(admin, "/user/update", user_id="dora", user_role="internal_user_viewer")
    assert post(admin, "/key/generate", new).status_code == 403
