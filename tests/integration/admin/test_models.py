"""Models by the management API: made, changed and deleted at run time, shown without secrets."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from services.runtime.bus import Bus
from services.runtime.registry import RegistrySnapshot, follow_registry
from tests.support.admin import RunningAdmin
from tests.support.nats import NatsServer
from tests.support.query_reader import running_query_reader

PARAMS = {"model": "anthropic/claude-haiku-4-5", "api_key": "os.environ/TEAM_API_KEY"}


@pytest.fixture(scope="module", autouse=True)
def _reader(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with running_query_reader(tmp_path_factory.mktemp("reader"), nats.url, []):
        yield


def new(admin: RunningAdmin, model_id: str, **fields: Any) -> httpx.Response:
    body = {"model_name": model_id, "litellm_params": PARAMS, "model_info": {"id": model_id}}
    return admin.http.post("/model/new", json=body | fields)


def infos(admin: RunningAdmin, **headers: str) -> dict[str, dict[str, Any]]:
    """Return the deployments that are shown, by id."""
    data = admin.http.get("/model/info", headers=headers).json()["data"]
    return {each["model_info"]["id"]: each for each in data}


def names(admin: RunningAdmin, path: str = "/models", **headers: str) -> list[str]:
    return [each["id"] for each in admin.http.get(path, headers=headers).json()["data"]]


def test_a_model_lives_its_life(admin: RunningAdmin, nats: NatsServer) -> None:
    # Given no such model, when one is made, then it is LiteLLM's row, and shown with its prices.
    made = new(admin, "m-1", model_name="claude-fast").json()
    assert (made["model_id"], made["created_by"]) == ("m-1", "master_key")
    assert made["litellm_params"] == PARAMS
    shown = infos(admin)["m-1"]
    assert shown["model_info"]["db_model"] is True
    assert shown["model_info"]["unusable"] is None
    assert shown["model_info"]["input_cost_per_token"] == 0.000001
    assert "claude-fast" in names(admin) == names(admin, "/v1/models")
    # When it is changed, then what is named changes, null takes away, and the rest stays.
    change = {"model_info": {"id": "m-1"}, "litellm_params": {"timeout": 120, "api_key": None}}
    changed = admin.http.post("/model/update", json=change).json()
    assert changed["litellm_params"] == {"model": PARAMS["model"], "timeout": 120}
    assert (changed["model_name"], changed["created_at"]) == ("claude-fast", made["created_at"])
    # When the stream is read as a proxy reads it, then it holds that state.
    snapshot = asyncio.run(registry_of(nats.url))
    assert snapshot.models["m-1"].litellm_params["timeout"] == 120
    # When it is deleted, then it is gone, and its id is never given again.
    deleted = admin.http.post("/model/delete", json={"id": "m-1"})
    assert deleted.json()["id"] == "m-1"
    assert "m-1" not in infos(admin)
    assert new(admin, "m-1").status_code == 409
    assert admin.http.post("/model/delete", json={"id": "m-1"}).status_code == 404


async def registry_of(nats_url: str) -> RegistrySnapshot:
    """Read the registry once, as a proxy does at its start."""
    snapshot = RegistrySnapshot()
    bus = await Bus.connect(nats_url, "proxy")
    loaded = asyncio.Event()

    def on_progress() -> None:
        if snapshot.loaded:
            loaded.set()

    following = asyncio.create_task(follow_registry(bus, snapshot, on_progress=on_progress))
    async with asyncio.timeout(30):
        await loaded.wait()
    following.cancel()
    await bus.close()
    return snapshot


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"litellm_params": {"model": "openai/gpt-9"}}, "litellm_params", "anthropic/<model>"),
        ({"litellm_params": {**PARAMS, "api_key": "sk-ant-x"}}, "litellm_params", "API_KEY"),
        ({"litellm_params": {**PARAMS, "api_key": "os.environ/HOME"}}, "litellm_params", "API_KEY"),
        ({"litellm_params": {**PARAMS, "api_base": "http://x.y"}}, "litellm_params", "https"),
        ({"litellm_params": {**PARAMS, "timeot": 5}}, "litellm_params", "did you mean timeout"),
        ({"litellm_params": {**PARAMS, "timeout": "soon"}}, "litellm_params", "must be a number"),
        ({"model_info": {"id": "a b"}}, "model_info", "letters, digits"),
        ({"model_info": {"id": "x", "note": "Bearer abc"}}, "model_info", "secret"),
        ({"model_info": {"id": "anthropic-claude/0"}}, "model_info", "letters, digits"),
        ({"model_name": "a*b*"}, "model_name", "one *"),
        ({"litellm_parms": {}}, "litellm_parms", "did you mean litellm_params"),
    ],
)
def test_what_no_proxy_could_serve_is_refused_with_the_reason(
    admin: RunningAdmin, fields: dict[str, Any], param: str, words: str
) -> None:
    # Given an entry with a problem, when it is added, then 400 tells it, no value is repeated, and
    # nothing is stored.
    response = new(admin, "refused", **fields)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param), error
    assert words in error["message"]
    assert "sk-ant-x" not in response.text
    assert "refused" not in infos(admin)


def test_models_of_the_file_are_shown_without_their_credential(admin: RunningAdmin) -> None:
    # Given a model of the file with a literal api_key, when it is shown, then the key is not; and
    # when it is changed or deleted here, then 400 says where that is done.
    response = admin.http.get("/model/info", params={"litellm_model_id": "anthropic-claude/0"})
    (entry,) = response.json()["data"]
    assert entry["litellm_params"]["model"] == "anthropic/claude-sonnet-4-20250514"
    assert (entry["model_info"]["db_model"], "api_key" in entry["litellm_params"]) == (False, False)
    assert "sk-ant" not in response.text
    body = {"model_info": {"id": "anthropic-claude/0"}, "model_name": "x"}
    refused = admin.http.post("/model/update", json=body)
    assert (refused.status_code, "configuration file" in refused.text) == (400, True)
    assert admin.http.post("/model/delete", json={"id": "nobody"}).status_code == 404
    missing = admin.http.get("/model/info", params={"litellm_model_id": "nobody"})
    assert missing.status_code == 404


def test_group_has_all_deployments_of_its_name(admin: RunningAdmin) -> None:
    # Given a second deployment of the file's model name, when groups are shown, then it counts,
    # and the prices are those of the dearest.
    dearer = {"model": "anthropic/claude-opus-4-5"}
    assert new(admin, "m-2", model_name="anthropic-claude", litellm_params=dearer).is_success
    query = {"model_group": "anthropic-claude"}
    (group,) = admin.http.get("/model_group/info", params=query).json()["data"]
    assert (group["deployments"], group["providers"]) == (2, ["anthropic"])
    assert group["output_cost_per_token"] == 0.000025
    assert admin.http.get("/model_group/info", params={"model_group": "x"}).json() == {"data": []}


def test_a_virtual_key_sees_the_models_that_it_may_use_and_changes_none(
    admin: RunningAdmin,
) -> None:
    # Given a key for some models, when it asks, then it sees those, without addresses and
    # variables; when it adds or deletes one, then it may not.
    assert new(admin, "m-3", model_name="allowed-1").is_success
    assert new(admin, "m-4", model_name="other-1").is_success
    key = str(admin.generate(models=["allowed-*"])["key"])
    mine = {"Authorization": f"Bearer {key}"}
    assert names(admin, **mine) == ["allowed-1"]
    shown = infos(admin, **mine)
    assert list(shown) == ["m-3"]
    assert shown["m-3"]["litellm_params"] == {"model": PARAMS["model"]}
    groups = admin.http.get("/model_group/info", headers=mine).json()["data"]
    assert [group["model_group"] for group in groups] == ["allowed-1"]
    for path in ("/model/new", "/model/update", "/model/delete"):
        assert admin.http.post(path, json={}, headers=mine).status_code == 403
    assert admin.http.get("/models", headers={"Authorization": "Bearer sk-x"}).status_code == 401


def test_of_two_changes_at_the_same_moment_none_is_lost_unseen(admin: RunningAdmin) -> None:
    # Given a model, when two change it at the same moment, then each answer is 200 or 409, and
    # what is stored is a change that was answered 200.
    assert new(admin, "m-5").is_success

    def change(timeout: int) -> int:
        body = {"model_info": {"id": "m-5"}, "litellm_params": {"timeout": timeout}}
        return admin.http.post("/model/update", json=body).status_code

    async def at_once() -> list[int]:
        return list(await asyncio.gather(*(asyncio.to_thread(change, n) for n in (1, 2))))

    for _ in range(10):
        statuses = asyncio.run(at_once())
        assert set(statuses) <= {200, 409}
        assert 200 in statuses
        stored = infos(admin)["m-5"]["litellm_params"]["timeout"]
        assert statuses[stored - 1] == 200
