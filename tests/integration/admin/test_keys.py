"""The life of virtual keys through the management API of a real admin process."""

import asyncio
import hashlib
from decimal import Decimal

import httpx
import msgspec
import pytest

from schemas.events import KeyCreated, KeyRotated, decode_key_event
from schemas.streams import key_subject
from services.runtime.bus import Bus
from tests.support.admin import MASTER_KEY, RunningAdmin
from tests.support.nats import NatsServer


def own(admin: RunningAdmin, own_key: str, **query: str) -> httpx.Response:
    """Ask /key/info with a virtual key."""
    headers = {"x-litellm-api-key": f"Bearer {own_key}"}
    return httpx.get(f"{admin.url}/key/info", headers=headers, params=query)


async def stored(url: str) -> list[tuple[str, bytes]]:
    """Return all that REGISTRY holds."""
    bus = await Bus.connect(url, "admin")
    found: list[tuple[str, bytes]] = []
    async for batch in bus.follow("REGISTRY"):
        found += [(message.subject, message.payload) for message in batch.messages]
        if batch.pending == 0:
            break
    await bus.close()
    return found


def test_generated_key_is_litellms_answer_and_is_stored_as_an_event(
    admin: RunningAdmin, nats: NatsServer
) -> None:
    # Given the request of the LiteLLM tutorial, when it is sent,
    answer = admin.generate(
        key_alias="tutorial", max_budget=100.00, budget_duration="monthly", metadata={"a": 1}
    )
    # Then the answer shows the key and its settings, and REGISTRY holds the same as an event.
    key, token = str(answer["key"]), str(answer["token"])
    assert key.startswith("sk-")
    assert token == answer["token_id"] == hashlib.sha256(key.encode()).hexdigest()
    assert answer["key_name"] == f"sk-...{key[-4:]}"
    assert (answer["max_budget"], answer["budget_duration"]) == (100, "monthly")
    assert str(answer["budget_reset_at"]).endswith("-01T00:00:00Z")
    assert (answer["expires"], answer["models"], answer["metadata"]) == (None, [], {"a": 1})
    subject = key_subject(str(answer["key_id"]))
    payload = dict(asyncio.run(stored(nats.url)))[subject]
    event = decode_key_event(payload)
    assert isinstance(event, KeyCreated)
    assert (event.data.key_alias, str(event.data.max_budget_usd)) == ("tutorial", "100")
    assert event.data.key_hash == token


@pytest.mark.parametrize("text", ["0.1", "1e-7", "0.000000000001", "999999999.999999999999"])
def test_money_is_exact_to_the_last_digit(admin: RunningAdmin, text: str) -> None:
    # Given a budget that a float cannot hold, when it is set as a JSON number,
    response = admin.http.post(
        "/key/generate",
        content=f'{{"max_budget": {text}}}',
        headers={"content-type": "application/json"},
    )

    # Then the answer's number has exactly that value.
    class Answer(msgspec.Struct):
        max_budget: msgspec.Raw

    raw = bytes(msgspec.json.decode(response.content, type=Answer).max_budget)
    assert Decimal(raw.decode()) == Decimal(text)


@pytest.mark.parametrize("text", ["-1", "1e999999999", "1e-13", '"NaN"', '"Infinity"', "true"])
def test_impossible_budgets_are_refused(admin: RunningAdmin, text: str) -> None:
    # Given an amount that is no budget, when it is sent, then 400 names the field.
    response = admin.http.post(
        "/key/generate",
        content=f'{{"max_budget": {text}}}',
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "max_budget"


def test_key_shows_itself_and_nothing_else(admin: RunningAdmin) -> None:
    # Given two keys, when one asks for itself and for the other,
    mine, other = admin.generate(key_alias="mine"), admin.generate(key_alias="other")
    key = str(mine["key"])
    # Then it sees itself, in all ways of naming it, and never the other.
    for query in ({}, {"key": key}, {"key": str(mine["token"])}, {"key": str(mine["key_id"])}):
        response = own(admin, key, **query)
        assert response.status_code == 200
        assert response.json()["info"]["key_alias"] == "mine"
        assert "token" not in response.json()["info"]
    for name in ("key", "token", "key_id"):
        assert own(admin, key, key=str(other[name])).status_code == 403
    assert own(admin, key, key="sk-no-such-key").status_code == 403
    listed = httpx.get(admin.url + "/key/list", headers={"Authorization": f"Bearer {key}"}).json()
    assert listed["keys"] == [mine["token"]]
    for path in ("/user/list", "/audit", "/team/list"):
        headers = {"Authorization": f"Bearer {key}"}
        assert httpx.get(admin.url + path, headers=headers).status_code == 403


def test_blocked_updated_and_deleted_keys_are_seen_at_once(admin: RunningAdmin) -> None:
    # Given a key, when it goes through its life,
    made = admin.generate(key_alias="life", models=["a", "b"])
    key = str(made["key"])

    def status() -> str:
        return str(admin.http.get("/key/info", params={"key": key}).json()["info"]["status"])

    # Then each answer is followed at once by a read that knows it.
    assert status() == "active"
    assert admin.http.post("/key/block", json={"key": key}).json()["blocked"] is True
    assert status() == "revoked"
    assert admin.http.post("/key/block", json={"key": made["token"]}).status_code == 200
    assert admin.http.post("/key/unblock", json={"key": key}).json()["blocked"] is False
    assert status() == "active"
    body = {"key": key, "max_budget": 5, "models": None, "duration": "1s", "user_id": "u"}
    updated = admin.http.post("/key/update", json=body).json()
    assert (updated["key"], updated["max_budget"], updated["models"]) == (key, 5, [])
    assert (updated["user_id"], updated["key_alias"]) == ("u", "life")
    assert (
        admin.http.post("/key/update", json={"key": key, "duration": "-1"}).json()["expires"]
        is None
    )
    deleted = admin.http.post("/key/delete", json={"keys": [key]})
    assert deleted.json() == {"deleted_keys": [key]}
    assert status() == "deleted"
    assert own(admin, key).status_code == 401
    for path in ("/key/block", "/key/update", "/key/delete"):
        body = {"keys": [key]} if path == "/key/delete" else {"key": key}
        assert admin.http.post(path, json=body).status_code == 404


def test_alias_is_unique_among_live_keys_and_free_after_deletion(admin: RunningAdmin) -> None:
    # Given a key with an alias, when another one wants it, then 409 until the first is deleted.
    admin.generate(key_alias="wanted")
    second = admin.generate(key_alias="second")
    taken = admin.http.post("/key/generate", json={"key_alias": "wanted"})
    assert (taken.status_code, taken.json()["error"]["param"]) == (409, "key_alias")
    rename = {"key": second["token"], "key_alias": "wanted"}
    assert admin.http.post("/key/update", json=rename).status_code == 409
    assert admin.http.post("/key/delete", json={"key_aliases": ["wanted"]}).status_code == 200
    assert admin.http.post("/key/update", json=rename).status_code == 200


def test_chosen_key_works_once_and_never_again(admin: RunningAdmin) -> None:
    # Given a key of one's own choice, when it is made, deleted and wanted again,
    chosen = "sk-chosen-by-the-caller-1234567890"
    assert admin.generate(key=chosen)["key"] == chosen
    assert own(admin, chosen).status_code == 200
    assert admin.http.post("/key/generate", json={"key": chosen}).status_code == 409
    admin.http.post("/key/delete", json={"keys": [chosen]})
    # Then a deleted secret never comes back to life.
    assert admin.http.post("/key/generate", json={"key": chosen}).status_code == 409
    assert own(admin, chosen).status_code == 401


def test_deleting_several_keys_deletes_all_or_none(admin: RunningAdmin) -> None:
    # Given two keys and a wrong one, when they are deleted together, then none is.
    keys = [admin.generate()["key"] for _ in range(2)]
    response = admin.http.post("/key/delete", json={"keys": [*keys, "sk-no-such-key-at-all"]})
    assert response.status_code == 404
    assert "sk-no-such-key-at-all" not in response.text
    assert all(own(admin, str(key)).status_code == 200 for key in keys)
    assert admin.http.post("/key/delete", json={"keys": keys}).status_code == 200


def test_list_filters_sorts_and_pages(admin: RunningAdmin) -> None:
    # Given three keys of a team, when they are listed two a page,
    for name in ("b", "a", "c"):
        admin.generate(key_alias=f"paged-{name}", team_id="paging", user_id=f"user-{name}")
    query = {"team_id": "paging", "sort_by": "key_alias", "sort_order": "asc", "size": "2"}
    full = {"return_full_object": "true"}
    pages = [
        admin.http.get("/key/list", params={**query, **full, "page": str(page)}).json()
        for page in (1, 2, 3)
    ]
    # Then each is shown once, in order, with counts; hashes alone without the full object.
    names = [[row["key_alias"] for row in page["keys"]] for page in pages]
    assert names == [["paged-a", "paged-b"], ["paged-c"], []]
    assert [(p["total_count"], p["total_pages"], p["current_page"]) for p in pages] == [
        (3, 2, 1), (3, 2, 2), (3, 2, 3),
    ]  # fmt: skip
    hashes = admin.http.get("/key/list", params=query).json()["keys"]
    assert hashes == [row["token"] for row in pages[0]["keys"]]
    part = {"key_alias": "PAGED-", "substring_matching": "true", "size": "100"}
    assert admin.http.get("/key/list", params=part).json()["total_count"] == 3
    assert admin.http.get("/key/list", params={"key_alias": "PAGED-"}).json()["keys"] == []


def test_no_secret_reaches_the_log_the_stream_or_an_error(
    admin: RunningAdmin, nats: NatsServer
) -> None:
    # Given keys made, used wrongly and deleted, when log, stream and store are searched,
    key = str(admin.generate(key_alias="canary")["key"])
    chosen = "sk-canary-chosen-key-0123456789"
    admin.generate(key=chosen)
    texts = [
        own(admin, key, key="sk-other-canary-0123456789").text,
        own(admin, "sk-wrong-canary-0123456789").text,
        admin.http.post("/key/block", json={"key": "sk-wrong-canary-0123456789"}).text,
        admin.http.post("/key/generate", json={"key": chosen}).text,
        admin.http.post("/key/generate", json={"key": [chosen]}).text,
        admin.http.post("/key/generate", json={chosen: 1}).text,
        admin.http.post("/key/delete", json={"keys": [key, "sk-wrong-canary-0123456789"]}).text,
        admin.log,
    ]
    texts += [payload.decode() for _, payload in asyncio.run(stored(nats.url))]
    texts += [path.read_bytes().decode("latin-1") for path in nats.store_dir.rglob("*.blk")]
    # Then none of them is there.
    assert len(texts) > 10
    for secret in (key, chosen.removeprefix("sk-canary-"), "wrong-canary-0123456789", MASTER_KEY):
        found = [text[:200] for text in texts if secret in text]
        # A field name that the caller made up is the caller's own text.
        assert [text for text in found if "not a known field" not in text] == []


def test_regenerated_key_keeps_its_id_and_the_old_one_works_for_its_grace_period(
    admin: RunningAdmin, nats: NatsServer
) -> None:
    # Given a key, when its secret is replaced with a grace period, then both show the same key.
    made = admin.generate(key_alias="rotated", max_budget=5)
    first, key_id = str(made["key"]), str(made["key_id"])
    body = {"key": first, "grace_period": "1h"}
    answer = admin.http.post("/key/regenerate", json=body).json()
    second = answer["key"]
    assert (answer["key_id"], answer["key_alias"], answer["max_budget"]) == (key_id, "rotated", 5)
    assert answer["token"] == hashlib.sha256(second.encode()).hexdigest() != made["token"]
    assert answer["former_key_until"] is not None
    for key in (first, second):
        assert own(admin, key).json()["info"]["key_id"] == key_id
    # When it is replaced without one, by the path, then the new one alone is known.
    answer = admin.http.post(f"/key/{key_id}/regenerate", json={}).json()
    assert answer["former_key_until"] is None
    assert [own(admin, key).status_code for key in (first, second)] == [401, 401]
    assert own(admin, answer["key"]).status_code == 200
    event = decode_key_event(dict(asyncio.run(stored(nats.url)))[key_subject(key_id)])
    assert isinstance(event, KeyRotated)
    assert event.route == "POST /key/{key}/regenerate"
    # And what is no key or no duration is refused by name; an old key is never given again.
    for path, sent, status, param in (
        ("/key/regenerate", {"key": "sk-unknown"}, 404, "key"),
        ("/key/regenerate", {"key": key_id, "grace_period": "soon"}, 400, "grace_period"),
        ("/key/sk-unknown/regenerate", {}, 404, "key"),
        ("/key/generate", {"key": second}, 409, "key"),
    ):
        response = admin.http.post(path, json=sent)
        assert (response.status_code, response.json()["error"]["param"]) == (status, param)
    assert not any(secret in admin.log for secret in (first, second, answer["key"]))


def test_bulk_update_changes_each_key_by_itself(admin: RunningAdmin) -> None:
    # Given five changes of which one is of no key, one wrong, one unreadable and one of an alias
    # that another one has just taken, when they are sent together,
    first, second, third = (admin.generate(key_alias=f"bulk-{n}") for n in range(3))
    body = {
        "keys": [
            {"key": first["key"], "max_budget": 5, "tags": ["a"], "key_alias": "bulk-taken"},
            {"key": "sk-of-nobody", "max_budget": 5},
            {"key": second["token"], "max_budget": -1},
            {"key": second["key_id"], "max_bugdet": 1},
            {"key": third["key_id"], "key_alias": "bulk-taken"},
            [],
            {"key": third["key_id"], "allowed_routes": ["/v1"], "models": ["m"]},
        ]
    }
    answer = admin.http.post("/key/bulk_update", json=body).json()
    # Then the good ones are changed, and each other one says why not.
    assert answer["total_requested"] == 7
    done = answer["successful_updates"]
    assert [each["key"] for each in done] == [first["key"], third["key_id"]]
    assert (done[0]["key_info"]["max_budget"], done[0]["key_info"]["tags"]) == (5, ["a"])
    assert done[1]["key_info"]["allowed_routes"] == ["/v1"]
    failed = answer["failed_updates"]
    words = ("not found", "must not be negative", "did you mean max_budget?", "bulk-taken", "")
    for each, said in zip(failed, words, strict=True):
        assert said in each["failed_reason"]
    known = [each["key_info"] and each["key_info"]["key_id"] for each in failed]
    assert known == [None, second["key_id"], second["key_id"], third["key_id"], None]
    shown = admin.http.get("/key/info", params={"key": str(first["key"])}).json()["info"]
    assert (shown["max_budget"], shown["key_alias"]) == (5, "bulk-taken")
    for wrong in ({}, {"keys": []}, {"keys": [{}] * 501}, {"key": []}):
        assert admin.http.post("/key/bulk_update", json=wrong).status_code == 400


def test_settings_change_with_the_secret_and_a_chosen_secret_is_refused(
    admin: RunningAdmin,
) -> None:
    # Given a key with an alias, when its secret is replaced along with settings, then both change
    # in one event, and nothing does where one of them is wrong.
    made = admin.generate(key_alias="rotate-me", max_budget=1)
    admin.generate(key_alias="rotate-other")
    path = f"/key/{made['key_id']}/regenerate"
    for wrong, words in (
        ({"key_alias": "rotate-other"}, "another key has the alias"),
        ({"new_key": "sk-chosen-by-somebody-123"}, "a new key is random"),
        ({"max_budget": -1}, "must not be negative"),
    ):
        answer = admin.http.post(path, json=wrong)
        assert words in answer.json()["error"]["message"]
        assert answer.json()["error"]["param"] == next(iter(wrong))
    assert own(admin, str(made["key"])).status_code == 200
    answer = admin.http.post(path, json={"max_budget": 2, "key_alias": "rotated-too"}).json()
    assert (answer["max_budget"], answer["key_alias"]) == (2, "rotated-too")
    assert own(admin, str(made["key"])).status_code == 401
    assert own(admin, answer["key"]).json()["info"]["key_alias"] == "rotated-too"


def test_list_shows_whose_keys_they_are(admin: RunningAdmin) -> None:
    # Given keys of a user that was made and of one that was not, when a list is expanded, then it
    # has the user, or null; and without that no such field.
    body = {"user_id": "expanded", "user_email": "e@example.com", "auto_create_key": False}
    assert admin.http.post("/user/new", json=body).status_code == 200
    for user_id in ("expanded", "expanded-nobody"):
        admin.generate(user_id=user_id)
    query = {"user_id": "expanded", "substring_matching": "true", "return_full_object": "true"}
    found = admin.http.get("/key/list", params={**query, "expand": "user"}).json()["keys"]
    users = {each["user_id"]: each["user"] for each in found}
    assert users["expanded"]["user_email"] == "e@example.com"
    assert users["expanded-nobody"] is None
    plain = admin.http.get("/key/list", params=query).json()["keys"]
    assert not any("user" in each for each in plain)
