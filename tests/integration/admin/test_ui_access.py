"""The dashboard's door: who comes in, who stays, whose rows they see, and who cannot forge."""

from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from tests.support.admin import MASTER_KEY, RunningAdmin
from tests.support.dashboard import COOKIE, LoggedIn, log_in
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader

HOSTILE = "<img src=x onerror=alert(1)>\"'&"


@pytest.fixture(scope="module", autouse=True)
def _reader(
    admin: RunningAdmin, nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    today = "2026-11-20"
    rows = [
        request_row(
            request_id=f"tg_{number}",
            started_at=f"{today} 10:00:0{number}",
            key_id=f"key_{number}",
            key_alias=HOSTILE if number == 1 else f"alias-{number}",
            user_id=f"user-{number}",
            team_id="team-x",
            model=HOSTILE if number == 1 else "claude-sonnet-5",
            cost_usd=f"{number}.500000000000",
        )
        for number in range(1, 4)
    ]
    now = datetime.now(UTC).isoformat(sep=" ")[:19]
    rows += [
        request_row(
            request_id=f"tg_vain_{number}",
            **dict.fromkeys(("started_at", "first_byte_at", "ended_at"), now),
            key_id=admin.generate(key_alias=f"vain-{number}", user_id="vain")["key_id"],
            user_id="vain",
            status="refused",
            http_status=401,
            cost_usd="0",
            reason=f"no <b>credential</b> {number}",
        )
        for number in range(3)
    ]
    with running_query_reader(tmp_path_factory.mktemp("reader"), nats.url, rows):
        yield


@pytest.fixture(scope="module")
def master(admin: RunningAdmin) -> LoggedIn:
    return log_in(admin.url, MASTER_KEY)


def test_pages_need_a_session_and_lead_back_after_the_login(admin: RunningAdmin) -> None:
    # Given nobody who is logged in, when a page is asked for, then the login page comes, which
    # leads back to that page and nowhere else.
    answer = httpx.get(f"{admin.url}/ui?day=2026-11-20")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/ui/login?next=/ui%3Fday")
    away = ("https://evil.example/", "//evil.example", "/key/list", "/ui/logout", "/ui/login?x=1")
    climbing = ("/ui\\x", "/ui/../key/list", "/ui/%2e%2e/key/list", "/uix")
    for where in (*away, *climbing):
        login = {"key": MASTER_KEY, "next": where}
        assert httpx.post(f"{admin.url}/ui/login", data=login).headers["location"] == "/ui"
    for where in ("/ui?day=1", "/ui/logs/tg_1", "/ui/logs?session=.."):
        login = {"key": MASTER_KEY, "next": where}
        assert httpx.post(f"{admin.url}/ui/login", data=login).headers["location"] == where


def test_wrong_key_is_told_and_repeats_nothing(admin: RunningAdmin) -> None:
    # Given a wrong key, when it is entered, then the page says so, without the key, and no
    # session is opened.
    secret = "sk-wrong-key-of-somebody"
    answer = httpx.post(f"{admin.url}/ui/login", data={"key": secret})
    assert answer.status_code == 401
    assert "neither the master key nor a virtual key" in answer.text
    assert secret not in answer.text
    assert "set-cookie" not in answer.headers
    assert httpx.post(f"{admin.url}/ui/login", data={"key": ""}).status_code == 400
    assert secret not in admin.log


def test_cookie_is_kept_from_scripts_and_other_sites(admin: RunningAdmin) -> None:
    login = {"key": MASTER_KEY}
    cookie = httpx.post(f"{admin.url}/ui/login", data=login).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/ui" in cookie
    assert "Secure" not in cookie
    by_https = {"x-forwarded-proto": "https"}
    cookie = httpx.post(f"{admin.url}/ui/login", data=login, headers=by_https).headers["set-cookie"]
    assert "Secure" in cookie
    assert MASTER_KEY not in cookie


def test_request_that_changes_something_needs_the_token_and_our_own_site(
    admin: RunningAdmin,
) -> None:
    # Given a session, when a form comes from another site or without the session's token, then it
    # is refused and the session goes on; with the token it does what it says.
    one = log_in(admin.url, MASTER_KEY)
    assert one.send("POST", "/ui/logout").status_code == 403
    foreign = {**one.token_headers, "sec-fetch-site": "cross-site"}
    assert one.send("POST", "/ui/logout", headers=foreign).status_code == 403
    origin = {**one.token_headers, "origin": "https://evil.example"}
    assert one.send("POST", "/ui/logout", headers=origin).status_code == 403
    other = log_in(admin.url, MASTER_KEY)
    assert one.send("POST", "/ui/logout", headers=other.token_headers).status_code == 403
    assert one.get("/ui").status_code == 200
    cookie = one.cookie
    answer = one.post("/ui/logout")
    assert answer.headers["hx-redirect"] == "/ui/login"
    # The cookie is gone from the browser, and worth nothing to whoever kept it.
    kept = httpx.get(f"{admin.url}/ui", headers={"cookie": f"{COOKIE}={cookie}"})
    assert kept.status_code == 303
    assert other.get("/ui").status_code == 200


def test_link_of_another_site_leads_on_to_its_page(admin: RunningAdmin) -> None:
    # Given a link in a chat, with which a browser sends no session, when it is followed, then the
    # login offers the page itself; who comes by a link of our own is offered nothing.
    query = {"next": "/ui/logs?key=a&user=<b>"}
    offered = 'href="/ui/logs?key=a&amp;user=&lt;b&gt;"'
    for site, is_offered in (("cross-site", True), ("same-origin", False), ("none", False)):
        headers = {"sec-fetch-site": site}
        page = httpx.get(f"{admin.url}/ui/login", params=query, headers=headers).text
        assert (offered in page) == is_offered
    query = {"next": "https://evil.example/"}
    headers = {"sec-fetch-site": "cross-site"}
    page = httpx.get(f"{admin.url}/ui/login", params=query, headers=headers).text
    assert 'href="/ui">open the page' in page
    assert "evil" not in page


def test_login_form_of_another_site_is_refused(admin: RunningAdmin) -> None:
    headers = {"sec-fetch-site": "cross-site"}
    answer = httpx.post(f"{admin.url}/ui/login", data={"key": MASTER_KEY}, headers=headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_every_page_forbids_what_is_not_its_own(admin: RunningAdmin, master: LoggedIn) -> None:
    # Given pages and their errors, when they are answered, then nothing from elsewhere may run in
    # them, no frame holds them and nobody keeps them.
    for answer in (
        master.get("/ui"),
        master.get("/ui/nothing"),
        httpx.get(f"{admin.url}/ui/login"),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "<script>" not in answer.text
        assert " style=" not in answer.text


def test_names_are_text_whatever_they_hold(master: LoggedIn) -> None:
    # Given a key and a model with names of markup, when they are shown, then as text, also in the
    # data of charts.
    page = master.get("/ui").text
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "\\u003cimg src=x" in page


def test_key_sees_what_is_its_own_alone(admin: RunningAdmin) -> None:
    # Given a key without a user and one of a user, when they log in, then they see their own.
    key = admin.generate(key_alias="personal", user_id="nobody-yet")
    page = log_in(admin.url, str(key["key"])).get("/ui").text
    assert "Your own requests and what they cost" in page
    assert "alias-2" not in page
    assert "No spend yet" in page


def test_who_cannot_work_is_told_why(admin: RunningAdmin, master: LoggedIn) -> None:
    # Given a user all of whose requests of this hour were refused, when the overview is opened,
    # then it says so with the reason, and does not call that all right; others see nothing of it.
    body = {"user_id": "vain", "user_role": "internal_user", "auto_create_key": False}
    assert admin.http.post("/user/new", json=body).status_code == 200
    vain = log_in(admin.url, str(admin.generate(user_id="vain")["key"]))
    page = vain.get("/ui").text
    assert "none of the last hour&#39;s 3 succeeded: no &lt;b&gt;credential&lt;/b&gt;" in page
    assert "None of the 3 requests of this month cost anything" in page
    assert "as they should be" not in page
    other = log_in(admin.url, str(admin.generate()["key"])).get("/ui").text
    assert "succeeded" not in other
    assert "<b>credential" not in master.get("/ui").text


def test_blocked_key_ends_its_session(admin: RunningAdmin) -> None:
    # Given a session of a key, when the key is blocked, then the session ends, and none begins.
    key = str(admin.generate(key_alias="to-block")["key"])
    one = log_in(admin.url, key)
    assert one.get("/ui").status_code == 200
    assert admin.http.post("/key/block", json={"key": key}).status_code == 200
    assert one.get("/ui").status_code == 303
    answer = httpx.post(f"{admin.url}/ui/login", data={"key": key})
    assert answer.status_code == 403
    assert "is blocked" in answer.text


def test_address_that_is_no_page_says_so(master: LoggedIn) -> None:
    answer = master.get("/ui/nothing")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "There is no such page" in answer.text
    part = master.part("/ui/nothing")
    assert part.headers["hx-retarget"] == "#flash"
    assert 'role="alert"' in part.text
    assert "<html" not in part.text


def test_files_are_kept_for_good_and_those_of_another_version_are_not_there(
    admin: RunningAdmin,
) -> None:
    page = httpx.get(f"{admin.url}/ui/login").text
    path = next(part for part in page.split('"') if part.endswith("app.css"))
    answer = httpx.get(admin.url + path)
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"].startswith("text/css")
    font = next(part for part in answer.text.split('"') if part.endswith(".woff2"))
    assert httpx.get(admin.url + font).headers["content-type"] == "font/woff2"
    digest = path.split("/")[3]
    assert httpx.get(admin.url + path.replace(digest, "0" * 12)).status_code == 404
