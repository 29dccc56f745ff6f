"""The list of models: Anthropic's pages, and names for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import BadRequest
from services.proxy.model_pages import page
from services.proxy.models import anthropic_model, display_name

NAMES = [f"claude-{number}" for number in range(57)]


@given(st.integers(1, 80))
def test_pages_forwards_and_backwards_are_the_whole_list(limit: int) -> None:
    # Given a list, when it is read page by page from either end, then each name comes once.
    ahead: list[str] = []
    query = {"limit": str(limit)}
    while True:
        found = page(NAMES, query)
        ahead += [model["id"] for model in found["data"]]
        if not found["has_more"]:
            break
        query["after_id"] = found["last_id"]
    assert ahead == NAMES
    back: list[str] = [NAMES[-1]]
    query = {"limit": str(limit), "before_id": NAMES[-1]}
    while True:
        found = page(NAMES, query)
        back = [model["id"] for model in found["data"]] + back
        if not found["has_more"]:
            break
        query["before_id"] = found["first_id"]
    assert back == NAMES


def test_a_page_has_exactly_the_api_s_shape() -> None:
    # Given no limit, then 20 come, as of the API; of none at all the ids are null.
    found = page(NAMES, {})
    assert list(found) == ["data", "has_more", "first_id", "last_id"]
    assert (len(found["data"]), found["has_more"]) == (20, True)
    assert (found["first_id"], found["last_id"]) == (NAMES[0], NAMES[19])
    assert list(found["data"][0]) == ["type", "id", "display_name", "created_at"]
    assert page([], {}) == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "x"},
        {"limit": ""},
        {"limit": "²"},
        {"limit": "9" * 5000},
        {"after_id": "nobody"},
        {"before_id": "nobody"},
        {"after_id": NAMES[0], "before_id": NAMES[1]},
    ],
)
def test_a_page_that_cannot_be_is_refused(query: dict[str, str]) -> None:
    # Given values that the API does not take, then they are a bad request, and named.
    with pytest.raises(BadRequest) as refused:
        page(NAMES, query)
    assert any(name in refused.value.message for name in query)


def test_names_of_the_price_book_are_spelled_for_people_and_own_names_stay() -> None:
    # Given names, then those of the price book have their words and day, others are themselves.
    assert display_name("claude-opus-4-1") == "Claude Opus 4.1"
    assert display_name("claude-3-5-sonnet") == "Claude 3.5 Sonnet"
    dated = anthropic_model("claude-opus-4-1-20250805")
    assert dated["display_name"] == "Claude Opus 4.1"
    assert dated["created_at"] == "2025-08-05T00:00:00Z"
    assert anthropic_model("claude-team-fast")["display_name"] == "claude-team-fast"
    assert anthropic_model("claude-team-fast")["created_at"] == "1970-01-01T00:00:00Z"
