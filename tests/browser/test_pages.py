"""Every page of the dashboard, with data, in a real browser: nothing of it is broken or unreadable.

A new page is in the list by being in the menu. Pages that the menu does not name, such as the
details of one request, are added to DETAILS.
"""

import re
from collections.abc import Iterator

import pytest

from services.admin.ui.navigation import PAGES
from tests.support.browser import LOOKS, NARROW, WIDE, Browser, Form, Session, screens_folder
from tests.support.demo import Demo
from tests.support.gateway import MASTER_KEY, Gateway, wait_until
from tests.support.mock import MockAnthropic

BYTES_MAX = 200 * 1024
"""No page may be heavier, its scripts, styles and letters included."""

DETAILS: tuple[str, ...] = (
    "/ui/logs/{request_id}",
    "/ui/logs?status=error&period=7d",
    "/ui/sessions/{session_id}",
    "/ui/sql?q=SELECT+day,+model,+sum(cost_usd)+AS+cost_usd+FROM+spend_by_day+GROUP+BY+ALL",
    "/ui/keys/{key_id}",
    "/ui/teams/{team_id}",
    "/ui/users/{user_id}",
    "/ui/models/{model}",
    "/ui/models?prices=all",
    # The page about the API, which is not of the dashboard.
    "/docs",
)
"""Paths beside the menu's. `{request_id}` and the like are filled in: see Demo.names."""

HOSTILE = "<img src=x onerror=alert(1)>\"'&lt;{{7*7}}\u202e" + "long" * 36
"""A name of 190 characters that a careless page would run, undo, reckon or be torn apart by."""
BOOKED = "SELECT request_id FROM requests WHERE status = 'success' LIMIT 1"

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("template", ["/ui/login", *(page.path for page in PAGES), *DETAILS])
def test_page_is_whole_light_readable_and_fits_a_phone(
    template: str, demo: Demo, admin: Session
) -> None:
    # Given a demo with data, when a page is opened with an empty cache, then it is there without
    # an error of the console or of its policy, within its weight, and axe-core finds nothing.
    path = template.format_map(demo.names)
    admin.show(Form(WIDE, "light"))
    look = admin.open_afresh(path)
    assert look.status == 200
    assert look.faults == []
    assert look.bytes <= BYTES_MAX
    assert admin.axe() == []
    name = re.sub(r"[^a-z0-9]+", "-", template).strip("-")
    admin.shoot(screens_folder() / f"{name}-{WIDE}-light.png")

    # When it is looked at on a phone, in the dark, then it can be read there, and nothing is wider.
    admin.show(Form(NARROW, "dark"))
    assert admin.sideways() == []
    assert admin.axe(*LOOKS) == []
    assert look.faults == []
    admin.shoot(screens_folder() / f"{name}-{NARROW}-dark.png")


@pytest.fixture(scope="module")
def new_gateway(
    tmp_path_factory: pytest.TempPathFactory, _mock_anthropic_process: MockAnthropic
) -> Iterator[Gateway]:
    """A gateway that nothing was asked yet; the tests that use it come in their order."""
    with Gateway.started(tmp_path_factory.mktemp("new"), _mock_anthropic_process) as running:
        yield running


def test_pages_of_an_empty_gateway_are_whole_and_say_what_to_do(
    new_gateway: Gateway, browser: Browser
) -> None:
    # Given a gateway that nothing was asked yet, when each page of the menu is opened, then it is
    # there without an error, also for those who cannot see well, and fits a phone.
    with browser.session(new_gateway.url, width=NARROW) as session:
        session.log_in(MASTER_KEY)
        for path in (page.path for page in PAGES):
            look = session.open(path)
            assert (path, look.status, look.faults) == (path, 200, [])
            assert (path, session.sideways()) == (path, [])
            assert (path, session.axe()) == (path, [])
            name = re.sub(r"[^a-z0-9]+", "-", path).strip("-")
            session.shoot(screens_folder() / f"{name}-empty-{NARROW}-light.png")


def test_names_that_mean_harm_are_shown_as_what_they_are(
    new_gateway: Gateway, browser: Browser
) -> None:
    # Given a team, a user, a key and a model whose names are scripts, long, and turned around, when
    # the pages that name them are opened on a phone, then no script of theirs runs, nothing is
    # asked of another host, and nothing is wider than the phone.
    gateway = new_gateway
    gateway.admin("POST", "/team/new", json={"team_id": "t", "team_alias": HOSTILE + " team"})
    gateway.admin("POST", "/user/new", json={"user_id": "u", "user_alias": HOSTILE + " user"})
    made = {"key_alias": HOSTILE, "team_id": "t", "user_id": "u", "tags": [HOSTILE[:60]]}
    key = gateway.admin("POST", "/key/generate", json={**made, "max_budget": 100})
    model = "claude-" + HOSTILE[:120]
    wait_until(lambda: gateway.ask(key["key"], model=model).status_code == 200, 30, "it is served")
    wait_until(lambda: gateway.sql(BOOKED), 30, "it is booked")
    request_id = gateway.sql(BOOKED)[0][0]
    details = [
        f"/ui/logs/{request_id}",
        f"/ui/keys/{key['token_id']}",
        "/ui/teams/t",
        "/ui/users/u",
    ]
    with browser.session(gateway.url, width=NARROW) as session:
        session.log_in(MASTER_KEY)
        for path in [*(page.path for page in PAGES), *details]:
            look = session.open(path)
            assert (path, look.status, look.faults) == (path, 200, [])
            assert (path, session.sideways()) == (path, [])
            name = re.sub(r"[^a-z0-9]+", "-", path).strip("-")[:40]
            session.shoot(screens_folder() / f"{name}-hostile-{NARROW}-light.png")
        session.open("/ui/keys")
        assert HOSTILE[:40] in session.page.get_by_role("main").inner_text()


def test_pages_of_a_developer_are_whole_and_show_no_other_names(
    demo: Demo, browser: Browser
) -> None:
    # Given a developer's own key, when each page of the menu is opened, then it is there without
    # an error, and no other developer's key is on it.
    with browser.session(demo.state.url) as session:
        session.log_in(demo.state.personal_key)
        menu = session.page.get_by_role("navigation", name="Pages").get_by_role("link")
        paths = [link.get_attribute("href") or "" for link in menu.all()]
        assert set(paths) == {page.path for page in PAGES if page.needs == "session"}
        for path in paths:
            look = session.open(path)
            assert (path, look.status, look.faults) == (path, 200, [])
            assert "ana-laptop" not in session.page.content(), path


def test_queries_run_by_keyboard_and_are_saved_in_the_browser(admin: Session) -> None:
    # Given the page SQL, when a query is typed, run by Ctrl+Enter and saved, then its answer is
    # there, and its name leads to it again, in this window and after a reload, until it is deleted.
    page = admin.page
    admin.show(Form(WIDE, "light"))
    admin.open("/ui/sql")
    page.get_by_label("Query", exact=True).fill("SELECT 6 * 7 AS answer")
    page.keyboard.press("Control+Enter")
    page.get_by_role("cell", name="42", exact=True).wait_for()
    page.get_by_label("Name of the query").fill("<b>mine</b>")
    page.get_by_role("button", name="Save").click()
    admin.open("/ui/sql")
    page.get_by_role("link", name="<b>mine</b>", exact=True).click()
    page.get_by_role("cell", name="42", exact=True).wait_for()
    page.get_by_role("button", name="Delete the query <b>mine</b>").click()
    admin.open("/ui/sql")
    assert page.get_by_role("link", name="<b>mine</b>").count() == 0
    assert admin.look.faults == []
