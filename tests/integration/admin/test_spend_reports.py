"""Reports about spend: by key, user, tag, team, end user and day, in JSON, CSV and Arrow alike."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from tests.support.admin import RunningAdmin
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader

OPUS, SONNET = "claude-opus-4-5", "claude-sonnet-4-20250514"
ACTIVITY = "/team/daily/activity?start_date=2026-11-01&end_date=2026-11-30"
NOVEMBER = {"start_date": "2026-11-01", "end_date": "2026-11-30"}


@pytest.fixture(scope="module")
def key(admin: RunningAdmin) -> dict[str, Any]:
    return admin.generate(key_alias="ana", user_id="u1", team_id="blue", tags=["web"])


@pytest.fixture(scope="module", autouse=True)
def _reader(
    admin: RunningAdmin,
    nats: NatsServer,
    key: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """Four requests of the key, one of them unpriced, and two of another, one refused."""
    ana = {"key_id": key["key_id"], "key_alias": "ana", "user_id": "u1", "team_id": "blue"}
    bob = {"key_id": "key_bob", "key_alias": "bob", "user_id": "u2", "team_id": None}
    rows = [
        request_row(
            request_id="r1", started_at="2026-11-20 10:00:00", cost_usd="0.000000000001", **ana
        ),
        request_row(
            request_id="r2",
            started_at="2026-11-20 23:59:59.999999",
            cost_usd="2",
            model=OPUS,
            session_id="s-1",
            **ana,
        ),
        request_row(
            request_id="r3",
            started_at="2026-11-21 00:00:00",
            cost_usd="0.25",
            end_user_id="e-1",
            tags="web",
            **ana,
        ),
        request_row(
            request_id="r4", started_at="2026-11-21 01:00:00", cost_usd=None, unpriced=True, **ana
        ),
        request_row(
            request_id="r5",
            started_at="2026-11-21 02:00:00",
            tags="nightly,web",
            cost_usd="10",
            end_user_id="e-2",
            **bob,
        ),
        request_row(
            request_id="r6",
            started_at="2026-12-01 00:00:00",
            cost_usd="0",
            status="refused",
            http_status=429,
            input_tokens=0,
            output_tokens=0,
            cache_read_tokens=0,
            cache_write_1h_tokens=0,
            prompt_tokens=0,
            total_tokens=0,
            **bob,
        ),
    ]
    keys = [
        {
            "key_id": key["key_id"],
            "key_alias": "ana",
            "key_name": "sk-...1",
            "user_id": "u1",
            "models": [],
            "tags": ["web", "paid"],
            "created_at": "2026-11-01",
            "updated_at": "2026-11-01",
        },
        {
            "key_id": "key_idle",
            "key_alias": "idle",
            "key_name": "sk-...2",
            "user_id": None,
            "models": [],
            "tags": ["web"],
            "created_at": "2026-11-01",
            "updated_at": "2026-11-01",
        },
        {
            "key_id": "key_gone",
            "key_alias": "gone",
            "key_name": "sk-...3",
            "user_id": None,
            "models": [],
            "tags": [],
            "deleted": True,
            "created_at": "2026-11-01",
            "updated_at": "2026-11-01",
        },
    ]
    teams = [
        {
            "team_id": "blue",
            "team_alias": "The Blues",
            "created_at": "2026-11-01",
            "updated_at": "2026-11-01",
        }
    ]
    folder = tmp_path_factory.mktemp("reader")
    with running_query_reader(folder, nats.url, rows, {"keys": keys, "teams": teams}):
        yield


def get(admin: RunningAdmin, path: str, **query: str) -> Any:
    """Return a JSON answer whose numbers are exact."""
    response = admin.http.get(path, params=query)
    assert response.status_code == 200, response.text
    return msgspec.json.Decoder(float_hook=Decimal).decode(response.content)


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"team_id": "blue"}, ["r4", "r3", "r2", "r1"]),
        ({"session_id": "s-1"}, ["r2"]),
        ({"model": OPUS}, ["r2"]),
        ({"model": "anthropic-claude", "user_id": "u2"}, ["r6", "r5"]),
        ({"status_filter": "failure"}, ["r6"]),
        ({"status_filter": "refused"}, ["r6"]),
        ({"status_filter": "client_closed"}, []),
        ({"status_filter": "success", "end_user": "e-2"}, ["r5"]),
        ({"session_id": "s-1", **NOVEMBER}, ["r2"]),
    ],
)
def test_logs_are_filtered_by_all_that_is_given(
    admin: RunningAdmin, query: dict[str, str], ids: list[str]
) -> None:
    # Given six requests, when some are asked for, then both routes give the same ones.
    assert [row["request_id"] for row in get(admin, "/spend/logs", **query)] == ids
    page = get(admin, "/spend/logs/v2", **query)
    assert [row["request_id"] for row in page["data"]] == ids
    assert page["total"] == len(ids)


def test_pages_hold_every_request_once_in_the_order_asked_for(admin: RunningAdmin) -> None:
    # Given six requests, when they are read by pages of four, then each comes once.
    first = get(admin, "/spend/logs/v2", page_size="4", sort_by="spend")
    last = get(admin, "/spend/logs/v2", page_size="4", sort_by="spend", page="2")
    assert [row["request_id"] for row in first["data"]] == ["r5", "r2", "r3", "r1"]
    assert [row["request_id"] for row in last["data"]] == ["r6", "r4"]
    assert {name: last[name] for name in last if name != "data"} == {
        "total": 6,
        "page": 2,
        "page_size": 4,
        "total_pages": 2,
    }
    # When bounds of cost and time are given, to the second, then they are included.
    between = get(admin, "/spend/logs/v2", min_spend="0.25", max_spend="2")
    assert [row["request_id"] for row in between["data"]] == ["r3", "r2"]
    seconds = {"start_date": "2026-11-20 23:59:59", "end_date": "2026-11-21 00:00:00"}
    assert get(admin, "/spend/logs/v2", **seconds)["total"] == 2


def test_keys_users_and_tags_have_exact_sums(admin: RunningAdmin, key: dict[str, Any]) -> None:
    # Given requests of two keys and a key without any, when spend is listed, then every sum is
    # exact, unpriced requests are told, and a deleted key without spend is not there.
    rows = get(admin, "/spend/keys")
    assert [(row["key_id"], row["spend"], row["unpriced_requests"]) for row in rows] == [
        ("key_bob", 10, 0),
        (key["key_id"], Decimal("2.250000000001"), 1),
        ("key_idle", 0, 0),
    ]
    assert (rows[1]["token"], rows[1]["key_alias"], rows[1]["requests"]) == (key["token"], "ana", 4)
    assert (rows[0]["token"], rows[0]["deleted"], rows[1]["deleted"]) == (None, None, False)
    # When days are given, then they bound the sums.
    day = get(admin, "/spend/keys", start_date="2026-11-20", end_date="2026-11-20")
    assert [row["spend"] for row in day][:1] == [Decimal("2.000000000001")]
    users = get(admin, "/spend/users")
    assert [(row["user_id"], row["spend"]) for row in users] == [
        ("u2", 10),
        ("u1", Decimal("2.250000000001")),
    ]
    assert [row["user_id"] for row in get(admin, "/spend/users", user_id="u1", **NOVEMBER)] == [
        "u1"
    ]
    # Tags of a key are those of all its requests; one that a request brought along counts once.
    tags = [tuple(row.values()) for row in get(admin, "/spend/tags")]
    assert tags == [
        ("web", 5, Decimal("12.250000000001")),
        ("nightly", 1, 10),
        ("paid", 4, Decimal("2.250000000001")),
    ]
    day = get(admin, "/spend/tags", start_date="2026-11-20", end_date="2026-11-20")
    assert [row["individual_request_tag"] for row in day] == ["paid", "web"]
    assert get(admin, "/spend/logs", request_id="r5")[0]["request_tags"] == ["nightly", "web"]
    assert get(admin, "/spend/logs", request_id="r1")[0]["request_tags"] == []
    assert get(admin, "/global/spend")["spend"] == Decimal("12.250000000001")


def test_report_by_team_is_litellms(admin: RunningAdmin, key: dict[str, Any]) -> None:
    # Given a team and a key without one, when November is reported, then there is one entry a day.
    first, second = get(admin, "/global/spend/report", **NOVEMBER)
    assert (first["group_by_day"], second["group_by_day"]) == ("2026-11-20", "2026-11-21")
    (team,) = first["teams"]
    assert (team["team_id"], team["team_name"]) == ("blue", "The Blues")
    assert team["total_spend"] == Decimal("2.000000000001")
    assert [(line["model"], line["spend"], line["api_key"]) for line in team["metadata"]] == [
        (OPUS, 2, key["token"]),
        (SONNET, Decimal("0.000000000001"), key["token"]),
    ]
    assert [(each["team_name"], each["total_spend"]) for each in second["teams"]] == [
        ("The Blues", Decimal("0.25")),
        ("Unassigned", 10),
    ]
    only = get(admin, "/global/spend/report", team_id="blue", **NOVEMBER)
    assert [len(day["teams"]) for day in only] == [1, 1]


def test_report_by_customer_key_and_user(admin: RunningAdmin, key: dict[str, Any]) -> None:
    # Given end users of two keys, when they are reported, then each has its day.
    (day,) = get(admin, "/global/spend/report", group_by="customer", **NOVEMBER)
    assert [(each["customer"], each["total_spend"]) for each in day["customers"]] == [
        ("e-1", Decimal("0.25")),
        ("e-2", 10),
    ]
    # When keys and users are reported, then the dearest comes first, with its models.
    keys = get(admin, "/global/spend/report", group_by="api_key", **NOVEMBER)
    assert [(row["api_key"], row["key_alias"], row["total_cost"]) for row in keys] == [
        (None, "bob", 10),
        (key["token"], "ana", Decimal("2.250000000001")),
    ]
    assert [row["model"] for row in keys[1]["model_details"]] == [OPUS, SONNET]
    assert keys[1]["total_input_tokens"] == 4 * 64679
    one = get(admin, "/global/spend/report", api_key=key["key"], **NOVEMBER)
    assert one == keys[1:]
    users = get(admin, "/global/spend/report", group_by="user", **NOVEMBER)
    assert [row["user_id"] for row in users] == ["u2", "u1"]


def test_activity_by_day_is_litellms(admin: RunningAdmin, key: dict[str, Any]) -> None:
    # Given three days, when they are asked for, then each has exact sums and its parts.
    period = {"start_date": "2026-11-01", "end_date": "2026-12-31"}
    whole = get(admin, "/user/daily/activity", **period)
    december, second, first = whole["results"]
    assert [day["date"] for day in whole["results"]] == ["2026-12-01", "2026-11-21", "2026-11-20"]
    assert first["metrics"]["spend"] == Decimal("2.000000000001")
    assert first["metrics"]["prompt_tokens"] == 2 * 64679
    assert first["metrics"]["cache_read_input_tokens"] == 2 * 25142
    assert (second["metrics"]["api_requests"], second["metrics"]["unpriced_requests"]) == (3, 1)
    assert december["metrics"]["failed_requests"] == december["metrics"]["api_requests"] == 1
    models = second["breakdown"]["models"]
    assert {name: part["metrics"]["api_requests"] for name, part in models.items()} == {SONNET: 3}
    keys = second["breakdown"]["api_keys"]
    assert {name: part["metrics"]["spend"] for name, part in keys.items()} == {
        "key_bob": 10,
        key["token"]: Decimal("0.25"),
    }
    assert keys[key["token"]]["metadata"]["key_alias"] == "ana"
    assert set(second["breakdown"]["entities"]) == {"u1", "u2"}
    assert set(second["breakdown"]["endpoints"]) == {"messages"}
    total = whole["metadata"]
    assert total["total_spend"] == Decimal("12.250000000001")
    assert (total["total_api_requests"], total["total_failed_requests"]) == (6, 1)
    assert (total["total_api_keys"], total["has_more"], total["total_pages"]) == (2, False, 1)
    # When it is asked for by pages, then each day is on one of them, and the sums are the page's.
    pages = [
        get(admin, "/user/daily/activity", page=str(n), page_size="2", **period) for n in (1, 2, 3)
    ]
    assert [len(page["results"]) for page in pages] == [2, 1, 0]
    assert [page["metadata"]["has_more"] for page in pages] == [True, False, False]
    assert sum(page["metadata"]["total_spend"] for page in pages) == total["total_spend"]
    # When it is asked for by team, key or model, then it is about those alone.
    teams = get(admin, "/team/daily/activity", **period)
    assert teams["metadata"]["total_spend"] == Decimal("2.250000000001")
    assert set(teams["results"][0]["breakdown"]["entities"]) == {"blue"}
    for query, requests in (
        ({"team_ids": "blue, red"}, 4),
        ({"team_ids": "red"}, 0),
        ({"exclude_team_ids": "blue"}, 0),
        ({"model": OPUS}, 1),
        ({"api_key": key["key"]}, 4),
    ):
        found = get(admin, "/team/daily/activity", **query, **period)
        assert found["metadata"]["total_api_requests"] == requests, query
    one = get(admin, "/user/daily/activity", user_id="u2", **period)
    assert one["metadata"]["total_spend"] == 10


@pytest.mark.parametrize(
    ("body", "cost"),
    [
        (
            {
                "completion_response": {
                    "model": SONNET,
                    "usage": {
                        "input_tokens": 2,
                        "output_tokens": 333,
                        "cache_read_input_tokens": 25142,
                        "cache_creation_input_tokens": 39535,
                        "cache_creation": {"ephemeral_1h_input_tokens": 39535},
                    },
                }
            },
            "0.2497536",
        ),
        (
            {
                "model": "anthropic-claude",
                "completion_response": {"usage": {"prompt_tokens": 1, "completion_tokens": 1}},
            },
            "0.000018",
        ),
        ({"model": SONNET, "messages": [{"role": "user", "content": "Hello"}]}, "0.000027"),
    ],
)
def test_cost_is_computed_as_the_ledger_does(
    admin: RunningAdmin, body: dict[str, Any], cost: str
) -> None:
    # Given an answer's usage in either shape, or messages, when its cost is asked for, then it is
    # exact by the prices in force, or said to be an estimate.
    response = admin.http.post("/spend/calculate", json=body)
    assert response.status_code == 200, response.text
    found = msgspec.json.Decoder(float_hook=Decimal).decode(response.content)
    assert (found["cost"], found["model"]) == (Decimal(cost), "claude-sonnet-4-0")
    assert sum(found["components"].values()) == found["cost"]
    assert found["estimated"] is ("messages" in body)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "completion_response"),
        ({"messages": [], "completion_response": {}}, "completion_response"),
        ({"messages": []}, "model"),
        ({"model": "nobody", "messages": []}, "model"),
        ({"model": SONNET, "completion_response": {}}, "completion_response"),
        ({"model": SONNET, "mesages": []}, "mesages"),
    ],
)
def test_what_has_no_cost_is_refused_and_never_0(
    admin: RunningAdmin, body: dict[str, Any], param: str
) -> None:
    # Given a body that is about nothing, or about a model without a price, then 400 says why.
    response = admin.http.post("/spend/calculate", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "path",
    [
        "/spend/logs",
        "/spend/logs?start_date=2026-11-01&end_date=2026-11-30",
        "/spend/logs/v2?page_size=2",
        "/spend/keys",
        "/spend/users?user_id=u1",
        "/spend/tags",
        "/user/daily/activity?start_date=2026-11-01&end_date=2026-11-30",
        "/team/daily/activity?start_date=2026-11-01&end_date=2026-11-30&team_ids=blue",
        *(
            f"/global/spend/report?start_date=2026-11-01&end_date=2026-11-30&group_by={group}"
            for group in ("team", "customer", "api_key", "user")
        ),
    ],
)
def test_every_report_is_the_same_table_in_csv_and_arrow(admin: RunningAdmin, path: str) -> None:
    # Given a report, when it is asked for in both forms, then rows and columns are the same, and
    # money is a decimal in Arrow.
    lines = admin.http.get(path, headers={"Accept": "text/csv"}).text.splitlines()
    separator = "&" if "?" in path else "?"
    answer = admin.http.get(f"{path}{separator}format=arrow")
    table = pa.ipc.open_stream(answer.content).read_all()
    assert lines[0].split(",") == table.schema.names
    assert len(lines) - 1 == table.num_rows > 0
    money = {"cost_usd", "spend_usd", "spend"} & set(table.schema.names)
    assert money
    assert all(pa.types.is_decimal(table.schema.field(name).type) for name in money)


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/global/spend/report?start_date=2026-11-01", "end_date"),
        ("/global/spend/report?start_date=x&end_date=2026-11-30", "start_date"),
        (
            "/global/spend/report?start_date=2026-11-01&end_date=2026-11-02&customer_id=e",
            "customer_id",
        ),
        ("/spend/logs?status=refused", "status"),
        ("/spend/logs?status_filter=lost", "status_filter"),
        ("/spend/logs/v2?min_spend=NaN", "min_spend"),
        ("/spend/logs/v2?page_size=101", "page_size"),
        ("/spend/logs/v2?start_date=2026-11-01+25:00:00", "start_date"),
        ("/spend/keys?format=xml", "format"),
        ("/user/daily/activity?start_date=2026-11-01", "end_date"),
        (f"{ACTIVITY}&timezone=-60", "timezone"),
        (f"{ACTIVITY}&team_ids={'a,' * 101}", "team_ids"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_name(
    admin: RunningAdmin, path: str, param: str
) -> None:
    # Given a parameter that is wrong, when a report is asked for, then 400 names it.
    response = admin.http.get(path)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_routes_of_litellms_pages_show_the_same_figures(admin: RunningAdmin) -> None:
    # Given requests of November (one of them unpriced) and one that was refused in December,
    # when the routes of LiteLLM's pages are asked, then each has its share of the same sums.
    web = {"name": "web", "spend": Decimal("12.250000000001"), "log_count": 5}
    assert get(admin, "/global/spend/tags", tags="web, other") == {"spend_per_tag": [web]}
    assert get(admin, "/global/spend/all_tag_names") == {"tag_names": ["web"]}
    activity = get(admin, "/global/activity", **NOVEMBER)
    assert activity["sum_api_requests"] == 5
    assert [day["date"] for day in activity["daily_data"]] == ["Nov 20", "Nov 21"]
    models = get(admin, "/global/activity/model", **NOVEMBER)
    assert [(each["model"], each["sum_api_requests"]) for each in models] == [
        (SONNET, 4),
        (OPUS, 1),
    ]
    tokens = sum(each["sum_total_tokens"] for each in models)
    assert tokens == activity["sum_total_tokens"] == 5 * 65_012
    assert get(admin, "/spend/logs/ui", page_size="2")["total"] == 6
