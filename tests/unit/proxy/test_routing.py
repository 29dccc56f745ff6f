"""From a model name to a deployment."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config import Deployment, RouterSettings
from schemas.errors import NotFound, Unauthenticated
from services.proxy.routing import Router, names_allowed, ranked
from services.runtime.model_names import matches


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


def group(*weights: float) -> list[Deployment]:
    return [
        Deployment(deployment_id=f"m/{place}", model_name="m", model="m", weight=weight)
        for place, weight in enumerate(weights)
    ]


SESSIONS = [f"session-{number}" for number in range(4000)]


def owners(deployments: list[Deployment]) -> dict[str, str]:
    return {session: ranked(deployments, session)[0].deployment_id for session in SESSIONS}


def test_each_deployment_has_its_share_of_the_sessions_by_its_weight() -> None:
    # Given weights of 1, 2 and 5, then the sessions are spread so; without weight it has none.
    found = list(owners(group(1, 2, 5, 0)).values())
    shares = [found.count(f"m/{place}") / len(found) for place in range(4)]
    for share, weight in zip(shares, (1, 2, 5, 0), strict=True):
        assert abs(share - weight / 8) < 0.03


def test_a_deployment_that_comes_takes_its_share_and_moves_no_other_session() -> None:
    # Given three deployments, when a fourth comes, then sessions either stay or go to it; and
    # when one goes, its sessions alone move.
    three, four = owners(group(1, 1, 1)), owners(group(1, 1, 1, 1))
    moved = [session for session in SESSIONS if three[session] != four[session]]
    assert {four[session] for session in moved} == {"m/3"}
    assert abs(len(moved) / len(SESSIONS) - 1 / 4) < 0.03
    without_last = owners(group(1, 1))
    assert all(
        without_last[session] == three[session] for session in SESSIONS if three[session] != "m/2"
    )


def test_sessions_of_a_deployment_that_fails_are_spread_over_all_others() -> None:
    # Given four deployments, then the second choices of one's sessions are the three others.
    deployments = group(1, 1, 1, 1)
    orders = [ranked(deployments, session) for session in SESSIONS]
    second = [order[1].deployment_id for order in orders if order[0].deployment_id == "m/0"]
    for place in (1, 2, 3):
        assert abs(second.count(f"m/{place}") / len(second) - 1 / 3) < 0.07


@given(st.text(max_size=40), st.permutations(list(range(5))))
def test_the_order_depends_on_the_session_and_not_on_the_file(seed: str, order: list[int]) -> None:
    # Given any session and any order of the entries, then all processes find the same ranking.
    deployments = group(1, 2, 3, 0, 0.5)
    shuffled = [deployments[place] for place in order]
    assert ranked(shuffled, seed) == ranked(deployments, seed)


def test_a_lower_order_comes_first_and_none_last() -> None:
    # Given orders, then they come before weights; those without one are the last.
    deployments = [
        Deployment(deployment_id=name, model_name="m", model="m", order=order, weight=weight)
        for name, order, weight in (("c", None, 99), ("b", 2, 1), ("a", 1, 0))
    ]
    for session in SESSIONS[:50]:
        assert [each.deployment_id for each in ranked(deployments, session)] == ["a", "b", "c"]


def test_a_name_with_one_way_to_go_is_plain_and_any_setting_makes_it_another() -> None:
    # Given one deployment, then nothing is kept or counted for it until a setting asks for it.
    one, other = deployment("m", "m"), deployment("b", "b")
    limited = Deployment(deployment_id="l", model_name="m", model="m", max_parallel_requests=1)

    def is_plain(deployments: list[Deployment], **settings: Any) -> bool:
        router = Router([*deployments, other], settings=RouterSettings(**settings))
        return router.find("m")[0].is_plain

    assert is_plain([one])
    assert is_plain([one], fallbacks={"b": ("m",)})
    assert not is_plain([limited])
    assert not is_plain([one, deployment("m", "m", 1)])
    assert not is_plain([one], num_retries=1)
    assert not is_plain([one], fallbacks={"m": ("b",)})
    assert not is_plain([one], fallbacks={"*": ("b",)})
    assert not is_plain([one], model_group_alias={"x": "m"}, fallbacks={"x": ("b",)})


def test_aliases_lead_to_models_and_never_in_circles() -> None:
    # Given aliases that a pattern matches too, then an exact name is first, then the alias once.
    settings = RouterSettings(
        model_group_alias={"claude-x": "claude-y", "claude-y": "claude-x", "short": "exact"},
        hidden_aliases=frozenset({"claude-y"}),
        fallbacks={"short": ("claude-1",), "*": ("exact",)},
    )
    router = Router([deployment("claude-*", "up-*"), deployment("exact", "e")], settings=settings)
    assert router.choose("claude-x", None)[1] == "up-y"
    assert router.choose("claude-y", None)[1] == "up-x"
    assert router.choose("short", None)[1] == "e"
    assert router.names == ["claude-*", "exact", "claude-x", "short"]
    short, _ = router.find("short")
    assert router.fallbacks_of("short", short) == ("claude-1",)
    assert router.fallbacks_of("exact", short) == ("exact",)
