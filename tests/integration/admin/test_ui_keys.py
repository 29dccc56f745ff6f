"""The dashboard's virtual keys: what is listed, to whom; a key that is made is shown once."""

import re
from collections.abc import Iterator
from html import unescape

import pytest

from tests.support.admin import MASTER_KEY, RunningAdmin
from tests.support.dashboard import LoggedIn, log_in
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader

HOSTILE = "<img src=x onerror=alert(1)>\"'&\u202e" + "x" * 150


@pytest.fixture(scope="module")
def made(admin: RunningAdmin) -> dict[str, dict[str, object]]:
    """Keys by what they are."""
    return {
        "plain": admin.generate(
            key_alias="plain", team_id="blue", user_id="ana", max_budget=10.0, rpm_limit=60
        ),
        "spent": admin.generate(key_alias="spent", max_budget=1.0, models=["a", "b", "c"]),
        "hostile": admin.generate(key_alias=HOSTILE, user_id=HOSTILE),
    }


@pytest.fixture(scope="module")
def _reader(
    made: dict[str, dict[str, object]],
    nats: NatsServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    rows = [
        request_row(
            request_id=f"tg_{name}",
            key_id=made[name]["key_id"],
            key_alias=name,
            user_id=made[name]["user_id"],
            team_id=made[name]["team_id"],
            cost_usd=cost,
        )
        for name, cost in (("plain", "2.500000000000"), ("spent", "1.250000000000"))
    ]
    change = {
        "stream_sequence": 7,
        "changed_at": "2026-11-20 09:00:00",
        "object_type": "key",
        "object_id": made["plain"]["key_id"],
        "action": "updated",
        "changed_by": "master_key",
        "changed_fields": ["max_budget_usd", "updated_at_us"],
        "before": '{"max_budget_usd": "5", "updated_at_us": 1}',
        "after": '{"max_budget_usd": "10", "updated_at_us": 2}',
    }
    others = {"registry_changes": [change]}
    with running_query_reader(tmp_path_factory.mktemp("reader"), nats.url, rows, others):
        yield


@pytest.fixture(scope="module")
def master(admin: RunningAdmin, _reader: None) -> LoggedIn:
    return log_in(admin.url, MASTER_KEY)


def names_in(page: str) -> list[str]:
    """Return the names of the keys that a page lists."""
    return [unescape(name) for name in re.findall(r'href="/ui/keys/key_[^"]+">([^<]*)<', page)]


def row_of(page: str, name: str) -> str:
    """Return the row of a key."""
    return next(row for row in page.split("<tr>") if f">{name}<" in row)


def test_list_comes_without_the_ledger_and_says_so(
    admin: RunningAdmin, made: dict[str, dict[str, object]]
) -> None:
    # Given no ledger yet, when the list is opened, then it has the keys, and says what it lacks.
    page = log_in(admin.url, MASTER_KEY).get("/ui/keys")
    assert page.status_code == 200
    assert set(names_in(page.text)) >= {"plain", "spent"}
    assert "Spend is not available at the moment" in page.text
    assert len(made) == 3


def test_keys_are_listed_with_spend_budget_and_standing(master: LoggedIn) -> None:
    page = master.get("/ui/keys").text
    plain = row_of(page, "plain")
    assert "$2.50" in plain
    assert "of $10.00" in plain
    assert 'width="25.0"' in plain
    assert "60 requests/min" in plain
    assert "all models" in plain
    spent = row_of(page, "spent")
    assert "budget spent" in spent
    assert "+1" in spent


def test_hostile_name_is_text(master: LoggedIn) -> None:
    page = master.get("/ui/keys").text
    assert "<img src=x" not in page
    assert HOSTILE in names_in(page)


def test_filters_and_orders_are_in_the_address(master: LoggedIn) -> None:
    # Given keys, when they are filtered and sorted by an address, then it lists those, in that
    # order, and a filter that means nothing is told of, not a fault.
    assert names_in(master.get("/ui/keys", team="blue").text) == ["plain"]
    assert names_in(master.get("/ui/keys", search="SPEN").text) == ["spent"]
    assert names_in(master.get("/ui/keys", user="ana", status="active").text) == ["plain"]
    by_name = names_in(master.get("/ui/keys", sort="key_alias", order="asc").text)
    assert by_name == sorted(by_name)
    assert "No key matches" in master.get("/ui/keys", search="nobody").text
    for query in ({"status": "x"}, {"sort": "x"}, {"order": "x"}, {"page": "x"}, {"page": "-1"}):
        answer = master.get("/ui/keys", **query)
        assert answer.status_code == 400, query
        assert 'role="alert"' in answer.text


def test_next_rows_come_as_a_part(admin: RunningAdmin, master: LoggedIn) -> None:
    # Given more keys than a page has, when the next part is fetched, then it has the others, and
    # the address opens as a page, too.
    for number in range(51):
        admin.generate(key_alias=f"many-{number}", team_id="many")
    first = master.get("/ui/keys", team="many").text
    found = re.search(r'hx-get="([^"]+)" hx-trigger="revealed"', first)
    assert found is not None
    path = unescape(found[1])
    part = master.part(path).text
    assert "<html" not in part
    assert "revealed" not in part
    assert sorted(names_in(first) + names_in(part)) == sorted(f"many-{n}" for n in range(51))
    assert "<html" in master.get(path).text


def test_key_is_made_and_shown_once_with_the_lines_for_claude_code(
    admin: RunningAdmin, master: LoggedIn
) -> None:
    # Given the form, when it is sent, then the key is there as it says, works, and is shown with
    # the lines that set it in Claude Code, whole and quoted for a shell.
    form = master.part("/ui/keys/new").text
    assert 'value="anthropic-claude"' in form
    answer = master.post(
        "/ui/keys",
        key_alias="developer-1",
        models_of="some",
        models="anthropic-claude",
        team_id="blue",
        max_budget="$100",
        budget_duration="monthly",
        duration="30d",
        tpm_limit="1,000,000",
        tags="one, two",
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    text = unescape(answer.text)
    key = secret_in(text)
    assert f"export ANTHROPIC_BASE_URL={admin.url}\n" in text
    assert f"export ANTHROPIC_CUSTOM_HEADERS='x-litellm-api-key: Bearer {key}'" in text
    assert f"export ANTHROPIC_AUTH_TOKEN={key}" in text
    assert "export ANTHROPIC_MODEL=anthropic-claude" in text
    info = admin.http.get("/key/info", params={"key": key}).json()["info"]
    assert info["key_alias"] == "developer-1"
    assert info["models"] == ["anthropic-claude"]
    assert info["team_id"] == "blue"
    assert info["max_budget"] == 100
    assert info["budget_duration"] == "monthly"
    assert info["tpm_limit"] == 1_000_000
    assert info["tags"] == ["one", "two"]
    assert info["expires"] is not None
    page = master.get("/ui/keys").text
    assert "developer-1" in names_in(page)
    assert key not in page
    assert key not in admin.log


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"key_alias": "plain"}, "key_alias", "choose another"),
        ({"max_budget": "ten"}, "max_budget", "amount of US dollars"),
        ({"max_budget": "-1"}, "max_budget", "must not be negative"),
        ({"duration": "soon"}, "duration", "duration"),
        ({"rpm_limit": "1.5"}, "rpm_limit", "whole number"),
        ({"key_type": "analyst"}, "key_type", ""),
    ],
)
def test_what_is_wrong_is_said_at_its_field(
    master: LoggedIn, fields: dict[str, str], field: str, says: str
) -> None:
    # Given a form with one wrong field, when it is sent, then it comes back as it was typed,
    # with the reason.
    answer = master.post("/ui/keys", **{"key_alias": "never-made", **fields})
    assert answer.status_code == 400
    value = fields[field]
    if field != "key_type":
        pattern = rf'<div class="field wrong">\s*<label for="f-{field}">.*?</div>'
        wrong = re.search(pattern, answer.text, re.DOTALL)
        assert wrong is not None, answer.text
        assert says in unescape(wrong[0])
        assert f'value="{value}"' in wrong[0]
    else:
        assert 'role="alert"' in answer.text
    assert "never-made" not in names_in(master.get("/ui/keys").text)


def test_key_for_some_models_names_at_least_one(master: LoggedIn) -> None:
    answer = master.post("/ui/keys", key_alias="no-model", models_of="some")
    assert answer.status_code == 400
    assert "Choose at least one model" in answer.text


def test_form_without_the_session_s_token_makes_nothing(
    admin: RunningAdmin, master: LoggedIn
) -> None:
    answer = master.send("POST", "/ui/keys", data={"key_alias": "forged"})
    assert answer.status_code == 403
    assert "forged" not in names_in(master.get("/ui/keys", search="forged").text)


def secret_in(page: str) -> str:
    """Return the key that a dialog shows."""
    found = re.search(r'<pre id="secret"[^>]*>(sk-[^<]+)</pre>', page)
    assert found is not None, page
    return found[1]


def test_page_of_a_key_tells_it_all(master: LoggedIn, made: dict[str, dict[str, object]]) -> None:
    # Given a key with spend and a history, when its page is opened, then it tells the budget,
    # what was spent of it, where to see its requests, and who changed what.
    key_id = str(made["plain"]["key_id"])
    page = unescape(master.get(f"/ui/keys/{key_id}").text)
    for text in ("plain", key_id, "60 requests/min", "25% spent", "$2.50", "of $10.00", "ana"):
        assert text in page
    assert f"/ui/logs?key={key_id}" in page
    assert "<h2>History</h2>" in page
    assert "<td>updated</td>" in page
    assert "5 → 10" in page
    hostile = master.get(f"/ui/keys/{made['hostile']['key_id']}").text
    assert "<img src=x" not in hostile
    assert HOSTILE in unescape(hostile)
    assert master.get("/ui/keys/key_of_nobody").status_code == 404


def test_edit_changes_what_differs_and_nothing_that_changed_meanwhile(
    admin: RunningAdmin, master: LoggedIn
) -> None:
    # Given a form of a key, when it is sent with one field changed, then that alone changes; when
    # the key was changed since the form was shown, then it is refused and says so.
    made = admin.generate(key_alias="edited", max_budget=5, model_rpm_limit={"claude-*": 3})
    path = f"/ui/keys/{made['key_id']}/edit"
    form = unescape(master.part(path).text)
    etag = re.search(r'name="etag" value="(.*?)">', form)
    assert etag is not None
    assert 'value="5"' in form
    fields = {"etag": etag[1], "key_alias": "edited", "models_of": "all", "user_id": ""}
    fields |= {"max_budget": "7.5", "budget_duration": "weekly", "tags": ""}
    answer = master.post(path, **fields)
    assert answer.headers.get("hx-redirect") == f"/ui/keys/{made['key_id']}", answer.text
    info = admin.http.get("/key/info", params={"key": made["key_id"]}).json()["info"]
    assert info["max_budget"] == 7.5
    assert info["budget_duration"] == "weekly"
    assert info["model_rpm_limit"] == {"claude-*": 3}
    again = master.post(path, **{**fields, "max_budget": "9"})
    assert again.status_code == 400
    assert 'role="alert"' in again.text
    now = admin.http.get("/key/info", params={"key": made["key_id"]}).json()["info"]
    assert now["max_budget"] == 7.5


def test_key_is_blocked_renewed_and_deleted_by_its_name(
    admin: RunningAdmin, master: LoggedIn
) -> None:
    made = admin.generate(key_alias="short-lived")
    path = f"/ui/keys/{made['key_id']}"

    def info() -> dict[str, object]:
        answer = admin.http.get("/key/info", params={"key": str(made["key_id"])})
        found: dict[str, object] = answer.json()["info"]
        return found

    assert "Block short-lived" in master.part(f"{path}/block").text
    assert master.post(f"{path}/block", want="block").headers["hx-redirect"] == path
    assert info()["status"] == "revoked"
    assert "Unblock short-lived" in master.part(f"{path}/block").text
    master.post(f"{path}/block", want="unblock")
    assert info()["status"] == "active"

    assert "Reset the budget of short-lived" in master.part(f"{path}/reset").text
    assert master.post(f"{path}/reset").headers.get("hx-redirect") == path
    renewed = master.post(f"{path}/regenerate", grace_period="24h")
    secret = secret_in(renewed.text)
    assert secret != made["key"]
    assert (
        admin.http.get("/key/info", params={"key": secret}).json()["info"]["key_id"]
        == made["key_id"]
    )
    assert "The previous secret still works until" in master.get(path).text

    wrong = master.post(f"{path}/delete", typed="another")
    assert wrong.status_code == 400
    assert info()["status"] == "active"
    assert master.post(f"{path}/delete", typed="short-lived").headers["hx-redirect"] == "/ui/keys"
    assert info()["status"] == "deleted"
    page = master.get(path)
    assert page.status_code == 200
    assert "New secret" not in page.text


def test_who_is_no_admin_sees_and_makes_own_keys(admin: RunningAdmin, master: LoggedIn) -> None:
    # Given a user who may make own keys, when it logs in, then it sees its own alone, makes keys
    # for itself, and neither opens nor changes a key of somebody else.
    master.get("/ui/keys")
    user = {"user_id": "ivy", "user_role": "internal_user", "auto_create_key": False}
    assert admin.http.post("/user/new", json=user).status_code == 200
    one = log_in(admin.url, str(admin.generate(key_alias="ivy-1", user_id="ivy")["key"]))
    other = str(admin.generate(key_alias="not-ivys")["key_id"])
    page = one.get("/ui/keys").text
    assert names_in(page) == ["ivy-1"]
    assert "Create key" in page
    assert one.post("/ui/keys", key_alias="ivy-2", models_of="all").status_code == 200
    assert sorted(names_in(one.get("/ui/keys").text)) == ["ivy-1", "ivy-2"]
    assert one.get(f"/ui/keys/{other}").status_code == 403
    assert one.post(f"/ui/keys/{other}/block", want="block").status_code == 403
    assert one.post(f"/ui/keys/{other}/delete", typed="not-ivys").status_code == 403
    taken = one.post("/ui/keys", key_alias="ivy-3", user_id="ana", models_of="all")
    assert taken.status_code == 400
    assert "ivy-3" not in names_in(master.get("/ui/keys", search="ivy-3").text)


def test_key_without_a_role_sees_itself_and_makes_none(admin: RunningAdmin) -> None:
    alone = admin.generate(key_alias="alone")
    one = log_in(admin.url, str(alone["key"]))
    page = one.get("/ui/keys").text
    assert names_in(page) == ["alone"]
    assert "has no role" in page
    assert "Create key" not in page
    own = one.get(f"/ui/keys/{alone['key_id']}")
    assert own.status_code == 200
    assert "New secret" not in own.text
    assert "<h2>History</h2>" not in own.text
    assert one.post("/ui/keys", key_alias="more", models_of="all").status_code == 403
