"""From a model name to a deployment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config import Deployment
from schemas.errors import NotFound, Unauthenticated
from services.proxy.routing import Router, matches, names_allowed


def deployment(name: str, model: str, number: int = 0) -> Deployment:
    return Deployment(deployment_id=f"{name}-{number}", model_name=name, model=model)


def test_exact_name_comes_before_patterns_and_long_patterns_before_short_ones() -> None:
    router = Router(
        [
            deployment("*", "any-*"),
            deployment("claude-*", "short-*"),
            deployment("claude-opus-*", "long-*"),
            deployment("claude-opus-4", "exact"),
        ]
    )

    assert router.choose("claude-opus-4", None)[1] == "exact"
    assert router.choose("claude-opus-5", None)[1] == "long-5"
    assert router.choose("claude-x", None)[1] == "short-x"
    assert router.choose("other", None)[1] == "any-other"
    assert router.choose("anthropic/claude-9", None)[1] == "any-claude-9"


def test_a_star_that_a_client_sends_is_a_letter_and_no_pattern() -> None:
    """Given a client that asks for the pattern itself, then it names no deployment by it."""
    router = Router([deployment("claude-*", "up-*")])

    assert router.choose("claude-*", None)[1] == "up-*"
    with pytest.raises(NotFound):
        router.choose("*", None)


def test_session_keeps_to_its_deployment_and_others_go_round() -> None:
    group = [deployment("m", "m", number) for number in range(3)]
    router = Router(group)

    chosen = {session: router.choose("m", session)[0] for session in map(str, range(60))}

    assert all(router.choose("m", session)[0] == each for session, each in chosen.items())
    assert set(chosen.values()) == set(group)
    assert {router.choose("m", None)[0] for _ in range(300)} == set(group)


def test_unknown_model_is_answered_with_the_known_ones() -> None:
    with pytest.raises(NotFound, match="claude-a") as refused:
        Router([deployment("claude-a", "x")]).choose("nothing", None)

    assert refused.value.http_status == 404


@given(st.text(max_size=6), st.text(max_size=6), st.text(max_size=6))
def test_star_stands_for_what_lies_between(before: str, star: str, after: str) -> None:
    pattern = f"{before.replace('*', '')}*{after}"
    name = before.replace("*", "") + star + after

    assert matches(pattern, name) == star


@pytest.mark.parametrize(
    ("models", "name", "allowed"),
    [
        ((), "anything", True),
        (("a",), "a", True),
        (("a",), "ab", False),
        (("claude-*",), "claude-3", True),
        (("claude-*",), "xclaude-3", False),
        (("ab*ba",), "aba", False),
        (("*",), "anything", True),
    ],
)
def test_key_may_use_the_models_that_it_lists(
    models: tuple[str, ...], name: str, *, allowed: bool
) -> None:
    assert names_allowed(models, name) is allowed


def test_model_that_cannot_be_served_is_refused_with_its_reason_and_no_pattern_takes_over() -> None:
    # Given names of the registry that cannot be served, when they are asked for, then the reason
    # comes back, unless the name has another deployment; and they are not listed.
    reasons = {"opus": "the variable X_API_KEY is not set", "big-*": "why", "both": "one of two"}
    router = Router([deployment("*", "any-*"), deployment("both", "b")], reasons)

    for name, reason in (("opus", "X_API_KEY"), ("big-1", "why")):
        with pytest.raises(Unauthenticated, match=reason):
            router.choose(name, None)
    assert router.choose("both", None)[1] == "b"
    assert router.choose("other", None)[1] == "any-other"
    assert router.names == ["*", "both"]
