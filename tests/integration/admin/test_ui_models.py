"""The dashboard's models: what they cost, what has no price; they are added and changed."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape

import pytest

from tests.support.admin import MASTER_KEY, RunningAdmin
from tests.support.dashboard import LoggedIn, log_in
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader

HOSTILE = "claude-<img src=x onerror=alert(1)>/\"'"


@pytest.fixture(scope="module")
def master(
    admin: RunningAdmin, nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LoggedIn]:
    """A session of the master key, over requests of today, one of which has no price."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    plain = {"started_at": now, "ended_at": now, "deployment": "anthropic-claude/0"}
    rows = [
        request_row(request_id="tg_1", cost_usd="2.500000000000", key_id="key_a", **plain),
        request_row(request_id="tg_2", status="failure", cost_usd="0", key_id="key_a", **plain),
        request_row(
            request_id="tg_3",
            model_name="of-tomorrow",
            model="claude-of-tomorrow",
            cost_usd=None,
            unpriced=True,
            **plain,
        ),
    ]
    price = {
        "model": "claude-sonnet-4",
        "names": ["claude-sonnet-4", "claude-sonnet-4-20250514"],
        "input_usd_per_mtok": "3",
        "output_usd_per_mtok": "15",
        "cache_read_usd_per_mtok": "0.3",
        "cache_write_5m_usd_per_mtok": "3.75",
        "cache_write_1h_usd_per_mtok": "6",
        "inference_geo_multipliers": {},
        "multiplier": "0.9",
        "origin": "file",
    }
    unused = {**price, "model": "claude-unused", "names": ["claude-unused"], "origin": "book"}
    change = {
        "stream_sequence": 3,
        "kind": "file",
        "changed_at": "2026-11-20 09:00:00",
        "changed_by": "config",
        "content": "[]",
    }
    others = {"prices": [price, unused], "price_changes": [change]}
    with running_query_reader(tmp_path_factory.mktemp("reader"), nats.url, rows, others):
        yield log_in(admin.url, MASTER_KEY)


def test_models_are_shown_with_prices_spend_and_how_they_did(master: LoggedIn) -> None:
    page = unescape(master.get("/ui/models").text)
    row = next(each for each in page.split("<tr>") if 'href="/ui/models/anthropic-claude"' in each)
    assert "$2.50" in row
    assert "1 failed" in row
    assert "$3.00" in page
    assert "all × 0.9" in page
    assert "claude-unused" not in page
    assert "claude-unused" in master.get("/ui/models", prices="all").text
    assert "Price history" in page
    one = unescape(master.get("/ui/models/anthropic-claude").text)
    assert "/ui/logs?model=anthropic-claude" in one
    assert "from the configuration" in one
    assert master.get("/ui/models/nothing").status_code == 404


def test_what_has_no_price_is_told_loudly(master: LoggedIn) -> None:
    page = master.get("/ui/models").text
    alert = page[page.index('<div class="alert bad" role="alert">') :]
    assert "1 request for" in alert
    assert "claude-of-tomorrow" in alert
    assert "prices:" in alert


def test_model_is_added_changed_and_deleted(admin: RunningAdmin, master: LoggedIn) -> None:
    # Given the forms of models, when they are sent, then the deployment is what they say; wrong
    # ones come back with the reason at its field; one of the file is changed there alone.
    fields = {"model_name": HOSTILE, "model": "anthropic/claude-haiku-4-5", "id": "fast-1"}
    wrong = master.post("/ui/models", **fields, api_key="sk-ant-secret-of-somebody")
    assert wrong.status_code == 400
    assert "sk-ant-secret-of-somebody" not in admin.log
    made = master.post("/ui/models", **fields, api_key="os.environ/TEAM_API_KEY", weight="2.5")
    assert made.headers.get("hx-redirect") == "/ui/models", made.text
    page = master.get("/ui/models").text
    assert "<img src=x" not in page
    assert "fast-1" in page
    assert "weight 2.5" in page

    def entry() -> dict[str, dict[str, object]]:
        answer = admin.http.get("/model/info", params={"litellm_model_id": "fast-1"})
        found: dict[str, dict[str, object]] = answer.json()["data"][0]
        return found

    path = "/ui/models/deployments/fast-1"
    form = unescape(master.part(f"{path}/edit").text)
    etag = re.search(r'name="etag" value="(.*?)">', form)
    assert etag is not None
    fields = {"etag": etag[1], "model_name": "fast", "model": "anthropic/claude-haiku-4-5"}
    answer = master.post(f"{path}/edit", **fields, api_key="os.environ/TEAM_API_KEY", weight="")
    assert answer.headers.get("hx-redirect") == "/ui/models", answer.text
    assert entry()["model_name"] == "fast"
    assert "weight" not in entry()["litellm_params"]
    stale = master.post(f"{path}/edit", **fields, api_key="os.environ/OTHER_API_KEY")
    assert stale.status_code == 400
    assert entry()["litellm_params"]["api_key"] == "os.environ/TEAM_API_KEY"

    assert master.post(f"{path}/delete", typed="fast").status_code == 400
    assert master.post(f"{path}/delete", typed="fast-1").headers["hx-redirect"] == "/ui/models"
    assert "fast-1" not in master.get("/ui/models").text
    of_file = master.part("/ui/models/deployments/anthropic-claude%252F0/edit")
    assert of_file.status_code == 404


def test_who_is_no_admin_sees_its_own_models_and_no_contracts(
    admin: RunningAdmin, master: LoggedIn
) -> None:
    master.get("/ui/models")
    key = admin.generate(key_alias="some-models", models=["anthropic-claude"])
    one = log_in(admin.url, str(key["key"]))
    page = one.get("/ui/models").text
    assert "anthropic-claude" in page
    assert "$2.50" not in page
    assert "claude-of-tomorrow" not in page
    assert "Prices in force" not in page
    assert "Add model" not in page
    refused = one.post("/ui/models", model_name="x", model="anthropic/claude-haiku-4-5")
    assert refused.status_code == 403
    assert "keys of a proxy_admin" in refused.text
