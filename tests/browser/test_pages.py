"""Every page of the dashboard, with data, in a real browser: nothing of it is broken or unreadable.

A new page is in the list by being in the menu. Pages that the menu does not name, such as the
details of one request, are added to DETAILS.
"""

import re

import pytest

from services.admin.ui.navigation import PAGES
from tests.support.browser import NARROW, WIDE, Form, Session, screens_folder
from tests.support.demo import Demo

BYTES_MAX = 200 * 1024
"""No page may be heavier, its scripts, styles and letters included."""

DETAILS: tuple[str, ...] = ()
"""Paths beside the menu's. `{request_id}` and the like are filled in: see Demo.names."""

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

    # When it is looked at on a phone, in the dark, then the same, and nothing is wider than it.
    admin.show(Form(NARROW, "dark"))
    assert admin.sideways() == []
    assert admin.axe() == []
    assert look.faults == []
    admin.shoot(screens_folder() / f"{name}-{NARROW}-dark.png")
