"""The paths of the API: what was checked is what goes upstream, whatever a client writes."""

import posixpath
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.errors import BadRequest, NotFound
from services.proxy.paths import (
    API_PATHS,
    PATH_BYTES_MAX,
    MethodNotAllowed,
    find_path,
    is_api_path,
    plain_path,
)

TRICKS = [
    "/",
    "//",
    "..",
    ".",
    "%2f",
    "%2F",
    "%2e%2e",
    "\\",
    ";",
    ";x=1",
    "?",
    "#",
    "%00",
    " ",
    "*",
]
PARTS = [*TRICKS, "v1", "messages", "files", "batches", "results", "skills", "MESSAGES", "a", "é"]
PASSING = ("/v1/*",)


@given(
    st.lists(st.sampled_from(PARTS), max_size=9).map("".join),
    st.sampled_from(["", "/v1/", "/anthropic/v1/", "/v1/files/", "/v1/skills/"]),
    st.sampled_from(["GET", "POST", "DELETE"]),
)
@example("..", "/v1/files/", "GET")
@example("a%2f..%2fmessages", "/v1/skills/", "POST")
@example("v1?", "/v1/", "GET")
def test_a_path_that_is_taken_means_one_thing_alone(end: str, start: str, method: str) -> None:
    # Given paths with every trick in them, when one is taken, then it is the bytes that came, and
    # no program that decodes, normalises, cuts or lower-cases paths finds another one in them.
    raw = (start + end).encode("latin-1", "replace")
    try:
        found = find_path(method, raw, PASSING)
    except (NotFound, MethodNotAllowed, BadRequest):
        return
    path = found.path
    assert path == plain_path(raw)
    assert path.startswith("/v1/")
    if found.endpoint is None:
        return
    # What follows a `?` is the query, and no part of the path.
    asked = raw.partition(b"?")[0].decode("latin-1")
    assert asked in {path, f"/anthropic{path}"}
    assert posixpath.normpath(path) == unquote(path) == path
    assert urlsplit(path).path == path
    assert not set(path) & set("%;\\?#* ")
    if found.endpoint == "pass_through":
        metered = {each.template for each in API_PATHS}
        assert path.lower() not in metered
        assert not path.lower().startswith("/v1/messages/batches/") or path.count("/") > 5


@pytest.mark.parametrize("prefix", ["", "/anthropic"])
@pytest.mark.parametrize("api_path", API_PATHS, ids=lambda each: each.template)
def test_each_path_is_found_under_both_prefixes_and_takes_its_methods_alone(
    prefix: str, api_path: object
) -> None:
    # Given a path that is served, then each of its methods finds it, and any other is told which.
    assert isinstance(api_path, type(API_PATHS[0]))
    path = api_path.template.replace("{id}", "item_01")
    raw = (prefix + path).encode()
    assert is_api_path(raw)
    for method in api_path.methods:
        found = find_path(method, raw, ())
        assert (found.path, found.endpoint) == (path, api_path.endpoint)
        assert found.item_id == ("item_01" if "{id}" in api_path.template else None)
    with pytest.raises(MethodNotAllowed) as refused:
        find_path("OPTIONS", raw, PASSING)
    assert refused.value.headers["allow"] == ", ".join(api_path.methods)


@pytest.mark.parametrize(
    ("patterns", "path", "passes"),
    [
        ((), "/v1/skills", False),
        (("/v1/skills",), "/v1/skills", True),
        (("/v1/skills",), "/v1/skills/a", False),
        (("/v1/skills*",), "/v1/skills/a/b", True),
        (("/v1/*/versions",), "/v1/skills/a/versions", True),
        (("/v1/*",), "/v1/Messages", False),
        (("/v1/*",), "/v1/FILES/x", False),
        (("/v1/*",), "/v1/" + "a" * PATH_BYTES_MAX, False),
        (("/v1/*",), "/v2/skills", False),
    ],
)
def test_only_listed_paths_pass_and_none_that_is_metered_by_another_name(
    patterns: tuple[str, ...], path: str, *, passes: bool
) -> None:
    # Given patterns of the configuration, then a path passes where one fits it.
    if passes:
        assert find_path("GET", path.encode(), patterns).endpoint == "pass_through"
        return
    with pytest.raises((NotFound, BadRequest)) as refused:
        find_path("GET", path.encode(), patterns)
    assert len(refused.value.message) < 300


def test_what_passes_takes_no_head_request() -> None:
    # Given HEAD, whose answers have a length and no body, then it is told which methods pass.
    with pytest.raises(MethodNotAllowed):
        find_path("HEAD", b"/v1/skills", PASSING)


@pytest.mark.parametrize(
    "path",
    [
        b"/key/info",
        b"/",
        b"//v1/messages",
        b"/anthropics/v1",
        b"/v10",
        # LiteLLM's second name of /model/info.
        b"/v1/model/info",
        b"/v1/model/info?litellm_model_id=1",
    ],
)
def test_other_paths_are_not_the_api_s(path: bytes) -> None:
    # Given paths of the management API and odd ones, then they are not taken for the API's.
    assert not is_api_path(path)
