"""docs/dashboard.md and the menu name the same pages."""

import re
from pathlib import Path

from services.admin.ui.navigation import PAGES

DOCUMENT = (Path(__file__).parents[2] / "docs" / "dashboard.md").read_text()


def test_every_page_of_the_menu_is_described_and_no_other() -> None:
    # Given the menu and the table of pages, when they are compared, then they are the same.
    described = re.findall(r"^\| ([^|]+) \| `(/ui[^`]*)` \| \S", DOCUMENT, flags=re.MULTILINE)
    assert described == [(page.title, page.path) for page in PAGES]
