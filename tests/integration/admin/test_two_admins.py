"""Two admin services at the same time, and NATS going away: nothing is lost or half done."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from schemas.events import KeyUpdated, decode_key_event
from services.runtime.bus import Bus
from tests.integration.admin.conftest import make_streams
from tests.support.admin import MASTER_KEY, RunningAdmin, running_admin
from tests.support.nats import NatsServer, running_nats

ROUNDS = 12


def together(calls: list[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    """Run calls at the same time; return their answers in order."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def poster(admin: RunningAdmin, path: str, body: dict[str, object]) -> Callable[[], httpx.Response]:
    """Return a call that posts once."""
    return lambda: admin.http.post(path, json=body)


async def events_of(url: str, subject: str) -> list[object]:
    """Return the events that REGISTRY holds of one key."""
    bus = await Bus.connect(url, "admin")
    found: list[object] = []
    async for batch in bus.follow("REGISTRY"):
        found += [decode_key_event(m.payload) for m in batch.messages if m.subject == subject]
        if batch.pending == 0:
            break
    await bus.close()
    return found


def test_two_admins_never_overwrite_each_other_unseen(
    admin: RunningAdmin, nats: NatsServer, tmp_path: Path
) -> None:
    # Given two admins and one key, when both change it at the same moment, again and again,
    with running_admin(tmp_path, nats.url) as second:
        made = admin.generate(key_alias="raced")
        token = str(made["token"])
        conflicts = won = 0
        for number in range(ROUNDS):
            answers = together(
                [
                    poster(one, "/key/update", {"key": token, "metadata": {name: number}})
                    for one, name in ((admin, "first"), (second, "second"))
                ]
            )
            # Then each is told that it won or that it lost, with advice.
            for answer in answers:
                assert answer.status_code in {200, 409}, answer.text
                if answer.status_code == 409:
                    conflicts += 1
                    assert "try again" in answer.json()["error"]["message"]
                else:
                    won += 1
        # And the stream holds exactly the changes that were answered with 200.
        events = asyncio.run(events_of(nats.url, f"registry.key.{made['key_id']}"))
        assert sum(isinstance(event, KeyUpdated) for event in events) == won
        assert won >= ROUNDS
        assert won + conflicts == 2 * ROUNDS


def test_two_admins_never_give_one_alias_to_two_keys(
    admin: RunningAdmin, nats: NatsServer, tmp_path: Path
) -> None:
    # Given two admins, when both give the same alias to a new key at the same moment,
    with running_admin(tmp_path, nats.url) as second:
        for number in range(ROUNDS):
            alias = f"race-{number}"
            answers = together(
                [poster(one, "/key/generate", {"key_alias": alias}) for one in (admin, second)]
            )
            # Then one gets it, the other 409, and one live key has it.
            assert sorted(answer.status_code for answer in answers) == [200, 409]
            winner = next(answer.json()["token"] for answer in answers if answer.is_success)
            for one in (admin, second):
                wait_for_keys(one, alias, [winner])


def wait_for_keys(admin: RunningAdmin, alias: str, keys: list[str]) -> None:
    """Wait until an admin has heard of what the other one did with the keys of an alias."""
    deadline = time.monotonic() + 30
    while (
        listed := admin.http.get("/key/list", params={"key_alias": alias}).json()["keys"]
    ) != keys:
        assert time.monotonic() < deadline, listed
        time.sleep(0.02)


def test_two_admins_never_make_one_chosen_key_twice(
    admin: RunningAdmin, nats: NatsServer, tmp_path: Path
) -> None:
    # Given two admins, when both make a key of the same chosen secret, then one of them does.
    with running_admin(tmp_path, nats.url) as second:
        for number in range(ROUNDS):
            body: dict[str, object] = {"key": f"sk-chosen-by-two-admins-{number:06d}"}
            answers = together([poster(one, "/key/generate", body) for one in (admin, second)])
            assert sorted(answer.status_code for answer in answers) == [200, 409]


def test_nothing_is_half_done_while_nats_is_down(tmp_path: Path) -> None:
    # Given an admin that has read the registry, when NATS goes away,
    with running_nats(tmp_path) as server:
        asyncio.run(make_streams(server.url))
        with running_admin(tmp_path / "admin", server.url) as admin:
            before = admin.generate(key_alias="before")
            server.kill()
            admin.wait_for_status("/health/readiness", 503)
            # Then writes are 503 and say that nothing was changed, and reads go on.
            response = admin.http.post("/key/generate", json={"key_alias": "during"})
            assert response.status_code == 503
            assert "nothing was changed" in response.json()["error"]["message"]
            block = admin.http.post("/key/block", json={"key": before["key"]})
            assert block.status_code == 503
            assert admin.http.get("/key/list").json()["keys"] == [before["token"]]
            info = admin.http.get("/key/info", params={"key": str(before["key"])}).json()["info"]
            assert (info["status"], info["spend"]) == ("active", None)
            assert "reader cannot be reached" in info["spend_error"]
            # When it is back, then writes go on, and the refused ones never happened.
            server.start()
            admin.wait_ready()
            aliases = [
                row["key_alias"]
                for row in admin.http.get("/key/list?return_full_object=true").json()["keys"]
            ]
            assert aliases == ["before"]
            admin.generate(key_alias="during")


def test_admin_that_starts_before_nats_says_so_and_recovers(tmp_path: Path) -> None:
    # Given an admin whose NATS is not there yet, when it is asked,
    with running_nats(tmp_path) as server:
        asyncio.run(make_streams(server.url))
        server.stop()
        with running_admin(tmp_path / "admin", server.url, wait=False) as admin:
            admin.wait_for_status("/health/liveliness", 200)
            # Then everything that needs the registry is 503, an unknown credential too.
            assert admin.http.get("/key/list").status_code == 503
            headers = {"Authorization": "Bearer sk-perhaps-a-virtual-key"}
            assert httpx.get(f"{admin.url}/key/info", headers=headers).status_code == 503
            # When NATS comes, then it serves; and it stops on SIGTERM with 0.
            server.start()
            admin.wait_ready()
            assert httpx.get(f"{admin.url}/key/info", headers=headers).status_code == 401
            admin.generate()
            assert admin.stop() == 0
            assert MASTER_KEY not in admin.log
