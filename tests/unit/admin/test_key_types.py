"""`key_type` and `allowed_routes` of requests: what they make of a key's record."""

from typing import Any

import pytest

from schemas.errors import BadRequest, Forbidden
from services.admin.bodies import GenerateKey, UpdateKey
from services.admin.key_types import check_routes, refuse_other_routes
from services.admin.records import Issue, created_record, updated_record

ISSUE = Issue(now_us=1, by="master_key")
PATHS = ("/key/info", "/key/{key}/regenerate", "/spend/logs", "/ledger/sql")


def made(**fields: Any) -> Any:
    return created_record(GenerateKey(**fields), "sk-" + "a" * 43, "key_1", ISSUE)


@pytest.mark.parametrize(
    ("fields", "routes", "analyst"),
    [
        ({}, (), None),
        ({"key_type": "default", "allowed_routes": ("/v1",)}, ("/v1",), None),
        ({"key_type": "llm_api"}, ("llm_api_routes",), None),
        ({"key_type": "llm_api", "allowed_routes": ()}, ("llm_api_routes",), None),
        ({"key_type": "management"}, ("management_routes",), None),
        ({"key_type": "read_only"}, ("info_routes",), None),
        ({"key_type": "analyst", "team_id": "blue"}, ("analyst_routes",), "team"),
        ({"key_type": "analyst", "analyst": "all"}, ("analyst_routes",), "all"),
        ({"allowed_routes": ("/anthropic/v1/a", "/v1/a", "/v1/*")}, ("/v1/a", "/v1/*"), None),
    ],
)
def test_key_type_is_a_name_for_routes(
    fields: dict[str, Any], routes: tuple[str, ...], analyst: str | None
) -> None:
    # Given a key_type or routes, when a key is made, then its record has the routes, each once.
    record = made(**fields)
    assert (record.allowed_routes, record.analyst) == (routes, analyst)
    cleared = updated_record(record, UpdateKey(key="k", allowed_routes=None), ISSUE)
    assert cleared.allowed_routes == ()


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"key_type": "llm_api", "allowed_routes": ("/v1",)}, "allowed_routes", "one of them"),
        ({"key_type": "analyst", "analyst": False}, "analyst", "leave it out"),
        ({"key_type": "analyst"}, "analyst", "without a team_id"),
        ({"allowed_routes": ("lmm_api_routes",)}, "allowed_routes", "did you mean llm_api_routes?"),
        ({"allowed_routes": ("/v1/",)}, "allowed_routes", "is no path"),
    ],
)
def test_what_contradicts_itself_is_refused(fields: dict[str, Any], param: str, words: str) -> None:
    # Given a request that cannot be meant so, when it is made, then it says which field, and why.
    with pytest.raises(BadRequest) as refused:
        made(**fields)
    assert refused.value.param == param
    assert words in refused.value.message


def test_aliases_are_kept_as_they_are_and_must_mean_something() -> None:
    # Given aliases of models, when a key is made, then it has them; patterns and circles are none.
    assert made(aliases={"fast": "b", "b": "fast"}).aliases == {"fast": "b", "b": "fast"}
    for wrong, words in (
        ({"a*": "b"}, r"without \*"),
        ({"a": "b*"}, r"without"),
        ({"a": "a"}, "itself"),
    ):
        with pytest.raises(BadRequest, match=words) as refused:
            made(aliases=wrong)
        assert refused.value.param == "aliases"


def test_path_that_no_route_has_is_refused_with_the_nearest() -> None:
    # Given the routes that are there, when a key is limited to another path, then it is refused.
    check_routes(("/v1/anything", "/*", "/key", "/key/{a}/regenerate", "info_routes"), PATHS)
    with pytest.raises(BadRequest, match=r"did you mean /spend/logs\?"):
        check_routes(("/key/info", "/spend/log"), PATHS)


def test_key_is_refused_all_but_its_routes_and_the_master_key_nothing() -> None:
    # Given a limited key, when it calls another route, then 403 tells what it may call.
    record = made(key_alias="ci", allowed_routes=("/key/info", "analyst_routes"))
    refuse_other_routes(record, "GET", "/key/info")
    refuse_other_routes(record, "POST", "/ledger/sql")
    refuse_other_routes(None, "POST", "/key/generate")
    with pytest.raises(Forbidden, match=r"ci may not call POST .*: /key/info, analyst_routes"):
        refuse_other_routes(record, "POST", "/key/generate")
