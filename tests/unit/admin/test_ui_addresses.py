"""Addresses of the dashboard's pages lead to what they name, whatever its id holds."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.admin.ui.addresses import id_in, page_of


@given(st.text(min_size=1, max_size=50).filter(lambda text: text.isprintable()))
def test_page_of_any_id_is_one_part_of_a_path_that_leads_back(object_id: str) -> None:
    # Given any id, when a server reads its page's path, then one part of it is that id.
    path = page_of("team", object_id)
    assert path.startswith("/ui/teams/")
    assert path.isascii()
    part = unquote(path.removeprefix("/ui/teams/"))
    assert "/" not in part
    assert part not in (".", "..")
    assert id_in(part) == object_id


@pytest.mark.parametrize("usual", ["blue", "alice@example.com", "a.b-c_d", "key_1:2"])
def test_usual_ids_are_read_as_they_are(usual: str) -> None:
    assert page_of("user", usual) == f"/ui/users/{usual}"
