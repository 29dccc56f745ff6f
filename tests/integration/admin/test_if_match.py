"""If-Match: a change that was decided on an older state is refused, with two admins at work."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.admin import RunningAdmin, running_admin
from tests.support.nats import NatsServer

ROUNDS = 6
DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def second(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAdmin]:
    """Another admin service over the same registry."""
    with running_admin(tmp_path_factory.mktemp("second"), nats.url) as running:
        yield running


class Kind:
    """One kind of record: how it is made, shown and changed."""

    def __init__(self, name: str, new: str, body: dict[str, Any], own: str) -> None:
        self.name, self.new, self.body, self.own = name, new, body, own

    def make(self, admin: RunningAdmin) -> str:
        """Make the record; return the parameter that shows it."""
        answer = admin.http.post(self.new, json=self.body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()[self.own])

    def show(self, admin: RunningAdmin, record_id: str) -> httpx.Response:
        """Return the answer that shows the record."""
        parameter = "litellm_model_id" if self.name == "model" else self.parameter
        return admin.http.get(f"/{self.name}/info", params={parameter: record_id})

    @property
    def parameter(self) -> str:
        """The field that names the record."""
        return "key" if self.name == "key" else f"{self.name}_id"

    def change(self, record_id: str, note: str) -> dict[str, Any]:
        """Return the body that sets the record's note."""
        if self.name == "model":
            # One of the model's settings that is a free number.
            return {"model_info": {"id": record_id}, "litellm_params": {"rpm": int(note) + 1}}
        return {self.parameter: record_id, "metadata": {"note": note}}


KINDS = {
    "key": Kind("key", "/key/generate", {}, "token"),
    "team": Kind("team", "/team/new", {}, "team_id"),
    "user": Kind("user", "/user/new", {"auto_create_key": False}, "user_id"),
    "model": Kind(
        "model",
        "/model/new",
        {"model_name": "raced", "litellm_params": {"model": "anthropic/claude-haiku-4-5"}},
        "model_id",
    ),
}


def update(
    admin: RunningAdmin, kind: Kind, record_id: str, note: str, etag: str
) -> Callable[[], httpx.Response]:
    """Return a call that changes a record if it is still in the state of an ETag."""
    body = kind.change(record_id, note)
    return lambda: admin.http.post(f"/{kind.name}/update", json=body, headers={"If-Match": etag})


def once_heard_of(call: Callable[[], httpx.Response]) -> str:
    """Make a change whose admin may hear late of the state that it names; return the new ETag."""
    deadline = time.monotonic() + DEADLINE_S
    while (answer := call()).status_code == 412 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert answer.status_code == 200, answer.text
    return answer.headers["etag"]


def assert_stale(answer: httpx.Response) -> None:
    """Assert the 412: the one error shape, the header's name, and advice."""
    assert answer.status_code == 412, answer.text
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == (
        "precondition_error",
        "If-Match",
        "412",
    )
    assert "Nothing was changed" in error["message"]


@pytest.mark.parametrize("name", KINDS)
def test_of_two_admins_that_saw_the_same_state_exactly_one_changes_it(
    admin: RunningAdmin, second: RunningAdmin, name: str
) -> None:
    # Given two admins that read the same state of a record, again and again,
    kind = KINDS[name]
    record_id = kind.make(admin)
    etag = kind.show(admin, record_id).headers["etag"]
    with ThreadPoolExecutor(2) as pool:
        for number in range(ROUNDS):
            # When both change it at the same moment, each saying what it had read,
            calls = [update(one, kind, record_id, str(number), etag) for one in (admin, second)]
            answers = list(pool.map(lambda call: call(), calls))
            # Then exactly one does, and the other is told that it decided on an old state.
            assert sorted(answer.status_code for answer in answers) == [200, 412]
            won = next(answer for answer in answers if answer.is_success)
            assert_stale(next(answer for answer in answers if not answer.is_success))
            # And the ETag of the winner's answer is that of the new state, which both know.
            assert won.headers["etag"] != etag
            etag = won.headers["etag"]


def test_change_on_a_stale_state_is_refused_wherever_the_newer_one_was_made(
    admin: RunningAdmin, second: RunningAdmin
) -> None:
    # Given a key that was read, and then changed through another admin,
    kind = KINDS["key"]
    token = kind.make(admin)
    old = kind.show(admin, token).headers["etag"]
    new = once_heard_of(update(second, kind, token, "by the second", old))
    # When it is changed, blocked, replaced or deleted with the ETag of before, the first time at
    # once, though this admin may not have heard of the newer state,
    stale = update(admin, kind, token, "by the first", old)
    assert_stale(stale())
    deadline = time.monotonic() + DEADLINE_S
    while kind.show(admin, token).headers["etag"] != new:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert_stale(stale())
    for path, body in (
        ("/key/block", {"key": token}),
        # It is not blocked: there is nothing to change, and still the demand is not met.
        ("/key/unblock", {"key": token}),
        ("/key/regenerate", {"key": token}),
        (f"/key/{token}/regenerate", {}),
        ("/key/delete", {"keys": [token]}),
    ):
        # Then each is refused, and the newer state stands.
        assert_stale(admin.http.post(path, json=body, headers={"If-Match": old}))
    shown = kind.show(admin, token)
    assert shown.headers["etag"] == new
    assert shown.json()["info"]["metadata"] == {"note": "by the second"}
    # When the ETag is the newest, which the other admin answered, and which this one may not have
    # heard of; when it is weak, or one of several: then it is done.
    for each in ("{}", "W/{}", '"1", {}, "of-somebody-else"'):
        for one in (admin, second):
            new = once_heard_of(update(one, kind, token, each, each.format(new)))
    # And any state that there is will do for `*`.
    assert update(second, kind, token, "any", "*")().status_code == 200


def test_several_records_are_deleted_together_or_not_at_all(admin: RunningAdmin) -> None:
    # Given two keys and a team with a key, when one of two ETags is old, then none is deleted.
    kind = KINDS["key"]
    tokens = [kind.make(admin) for _ in range(2)]
    etags = [kind.show(admin, token).headers["etag"] for token in tokens]
    fresh = admin.http.post("/key/block", json={"key": tokens[1]}).headers["etag"]
    body = {"keys": tokens}
    stale = admin.http.post("/key/delete", json=body, headers={"If-Match": ", ".join(etags)})
    assert_stale(stale)
    assert kind.show(admin, tokens[0]).json()["info"]["status"] == "active"
    # When both are those of now, then both are deleted.
    demand = {"If-Match": f"{etags[0]}, {fresh}"}
    assert admin.http.post("/key/delete", json=body, headers=demand).status_code == 200
    # And a team's ETag is enough to delete it: its keys go with it.
    team_id = KINDS["team"].make(admin)
    token = str(admin.generate(team_id=team_id)["token"])
    demand = {"If-Match": KINDS["team"].show(admin, team_id).headers["etag"]}
    gone = admin.http.post("/team/delete", json={"team_ids": [team_id]}, headers=demand)
    assert gone.json() == {"deleted_teams": [team_id], "deleted_keys": 1}
    assert kind.show(admin, token).json()["info"]["status"] == "deleted"


def test_team_that_is_deleted_takes_keys_along_that_others_change_meanwhile(
    admin: RunningAdmin, second: RunningAdmin
) -> None:
    # Given a team with keys that another admin changes all the time,
    team_id = KINDS["team"].make(admin)
    tokens = [str(admin.generate(team_id=team_id)["token"]) for _ in range(8)]
    deleted = threading.Event()

    def change_on() -> None:
        while not deleted.is_set():
            for token in tokens:
                body = {"key": token, "metadata": {"at": str(uuid.uuid4())}}
                answer = second.http.post("/key/update", json=body)
                assert answer.status_code in {200, 404, 409}, answer.text

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change_on)
        # When the team is deleted, then it is done, and no key of it is left half deleted.
        answer = admin.http.post("/team/delete", json={"team_ids": [team_id]})
        deleted.set()
        changing.result()
    assert answer.json() == {"deleted_teams": [team_id], "deleted_keys": len(tokens)}
    states = {KINDS["key"].show(admin, token).json()["info"]["status"] for token in tokens}
    assert states == {"deleted"}


def test_key_that_loses_its_alias_while_it_is_replaced_keeps_its_secret(
    admin: RunningAdmin, second: RunningAdmin
) -> None:
    # Given two keys, when two admins replace their secrets and give both the same alias at the
    # same moment, again and again,
    for number in range(ROUNDS):
        keys = [str(admin.generate()["key"]) for _ in range(2)]

        def replace(one: RunningAdmin, key: str, alias: str) -> httpx.Response:
            return one.http.post("/key/regenerate", json={"key": key, "key_alias": alias})

        alias = f"renewed-{number}"
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(replace, (admin, second), keys, [alias] * 2))
        # Then at most one gets it, and who is refused still has a key that works: the old one.
        won = [answer for answer in answers if answer.is_success]
        assert len(won) <= 1, [answer.text for answer in answers]
        for one, answer, key in zip((admin, second), answers, keys, strict=True):
            # The second one may not have heard of its key yet.
            assert answer.status_code in {200, 404, 409}, answer.text
            if answer.status_code == 409:
                header = {"Authorization": f"Bearer {key}"}
                own = httpx.get(f"{one.url}/key/info", headers=header)
                assert own.json()["info"]["key_alias"] is None, own.text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/key/update", "123"),
        ("/key/update", '"123'),
        ("/key/update", ""),
        ("/key/update", '"1" "2"'),
        ("/key/update", ", ".join(f'"{number}"' for number in range(1, 102))),
        # Nothing can be compared where something new is made, or where there is no record.
        ("/key/generate", '"1"'),
        ("/config/reload", "*"),
    ],
)
def test_demand_that_cannot_be_met_by_comparing_is_refused(
    admin: RunningAdmin, path: str, value: str
) -> None:
    # Given a malformed If-Match, or a route that compares none, when it is sent, then 400.
    answer = admin.http.post(path, json={"key": "sk-any"}, headers={"If-Match": value})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == "If-Match"
