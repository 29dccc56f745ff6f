"""`router_settings`, and what `model_list` says of routing: read as LiteLLM means it."""

import pytest

from schemas.config import GatewayConfig, RouterSettings
from schemas.errors import ConfigError
from services.runtime.config import read_config
from services.runtime.config_keys import SECTIONS

ENTRY = "  - {model_name: %s, litellm_params: {model: anthropic/m, api_key: k%s}}\n"
MODELS = "model_list:\n" + ENTRY % ("a", "") + ENTRY % ("b", "") + ENTRY % ("claude-*", "")


def read(text: str) -> GatewayConfig:
    return read_config(text.encode(), "c", {})


def router(text: str) -> RouterSettings:
    return read(MODELS + f"router_settings: {text}\n").router


def the_problem(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        router(text)
    (problem,) = str(refused.value).splitlines()[1:]
    return problem


def test_without_the_section_nothing_that_may_have_been_billed_is_repeated() -> None:
    # Given a file without router_settings, then there are no repetitions, fallbacks or aliases.
    settings = read(MODELS).router
    assert settings == RouterSettings()
    assert (settings.num_retries, settings.fallbacks, settings.model_group_alias) == (0, {}, {})


def test_all_keys_of_the_section_are_taken() -> None:
    # Given each key, when it is read, then each has its place; fallbacks are cut at max_fallbacks.
    settings = router(
        "{routing_strategy: least-busy, num_retries: 2, retry_after: 1.5, allowed_fails: 7, "
        "cooldown_time: 30, disable_cooldowns: true, default_fallbacks: [b], max_fallbacks: 1, "
        "fallbacks: [{a: [b, claude-x]}, {b: [a]}], "
        "model_group_alias: {c: a, d: {model: b, hidden: true}}}"
    )
    assert settings == RouterSettings(
        routing_strategy="least-busy",
        num_retries=2,
        retry_after_s=1.5,
        allowed_fails=7,
        cooldown_s=30,
        disable_cooldowns=True,
        fallbacks={"*": ("b",), "a": ("b",), "b": ("a",)},
        model_group_alias={"c": "a", "d": "b"},
        hidden_aliases=frozenset({"d"}),
    )


def test_litellm_settings_may_hold_them_too_and_router_settings_count() -> None:
    # Given keys in both sections, then those of router_settings win and the others stand.
    text = MODELS + "litellm_settings: {num_retries: 1, fallbacks: [{a: [b]}]}\n"
    assert read(text).router.num_retries == 1
    settings = read(text + "router_settings: {num_retries: 3}\n").router
    assert (settings.num_retries, settings.fallbacks) == (3, {"a": ("b",)})


def test_the_nearest_timeout_counts() -> None:
    # Given timeouts at all levels, then the entry's own comes before those of the sections.
    text = "model_list:\n" + ENTRY % ("a", "") + ENTRY % ("b", ", timeout: 7, stream_timeout: 8")
    text += "litellm_settings: {request_timeout: 90}\n"
    first, second = read(text).deployments
    assert (first.timeout_s, first.stream_timeout_s) == (90, None)
    text += "router_settings: {timeout: 50, stream_timeout: 60, default_max_parallel_requests: 4}"
    first, second = read(text).deployments
    assert (first.timeout_s, first.stream_timeout_s, first.max_parallel_requests) == (50, 60, 4)
    assert (second.timeout_s, second.stream_timeout_s) == (7, 8)


def test_weight_order_and_parallel_requests_of_an_entry_are_taken() -> None:
    # Given an entry with all three, then its deployment has them; without, none is set.
    extra = ", weight: 2.5, order: 1, max_parallel_requests: 3, rpm: 50, tpm: 9000"
    first, second = read("model_list:\n" + ENTRY % ("a", extra) + ENTRY % ("a", "")).deployments
    assert (first.weight, first.order, first.max_parallel_requests) == (2.5, 1, 3)
    assert (first.rpm, first.tpm, second.rpm, second.tpm) == (50, 9000, None, None)
    assert (second.weight, second.order, second.max_parallel_requests) == (1.0, None, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{routing_strategy: latency-based-routing}", "one of simple-shuffle, least-busy"),
        ("{num_retries: 11}", "from 0 to 10"),
        ("{num_retries: two}", "from 0 to 10"),
        ("{retry_after: -1}", "from 0 to 60"),
        ("{cooldown_time: 1d}", "from 0 to 3600"),
        ("{allowed_fails: -1}", "from 0 to 100000"),
        ("{disable_cooldowns: 3}", "true or false"),
        ("{fallbacks: {a: [b]}}", "must be a list"),
        ("{fallbacks: [a]}", "mapping of model names"),
        ("{fallbacks: [{a: b}]}", "must be a list"),
        ("{fallbacks: [{a: [claud-x]}]}", "did you mean claude-*?"),
        ("{fallbacks: [{zzz: [b]}]}", "does not have: add it there"),
        ("{fallbacks: [{a: [b, a]}]}", "its own fallback"),
        ("{fallbacks: [{a: [b]}, {a: [claude-x]}]}", "twice"),
        (f"{{fallbacks: [{{a: [{'b, ' * 11}b]}}]}}", "more than 10"),
        ("{default_fallbacks: [zzz]}", "does not have"),
        ("{model_group_alias: {a: b}}", "a name that model_list does not have"),
        ("{model_group_alias: {'x*': b}}", "a name that model_list does not have"),
        ("{model_group_alias: {x: zzz}}", "does not have"),
        ("{model_group_alias: {x: {hidden: true}}}", "must have a model"),
        ("{model_group_alias: {x: {model: a, mode: y}}}", "model and hidden alone"),
        ("{model_group_alias: [x]}", "mapping of model names"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, words: str) -> None:
    # Given one mistake, then it alone is told, with the line on which it stands.
    problem = the_problem(text)
    assert words in problem
    assert problem.startswith("c:5: ")


def test_names_of_entries_with_problems_are_known_all_the_same() -> None:
    # Given a model that cannot be used and is a fallback, then its own problem alone is told.
    text = "model_list:\n" + ENTRY % ("a", "") + ENTRY % ("b", ", api_base: 5")
    with pytest.raises(ConfigError) as refused:
        read(text + "router_settings: {fallbacks: [{a: [b]}]}\n")
    (problem,) = str(refused.value).splitlines()[1:]
    assert "api_base" in problem


def test_both_sections_read_the_same_keys() -> None:
    # Given what router_settings reads, then litellm_settings reads all of it.
    assert set(SECTIONS["router_settings"].read) <= set(SECTIONS["litellm_settings"].read)
