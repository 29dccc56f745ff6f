"""Which deployment is asked after which: whatever goes wrong, within the rules about money."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.config import Deployment, GatewayConfig, RouterSettings
from schemas.errors import RateLimited, Unauthenticated, Unavailable, UpstreamUnreachable
from schemas.registry import KeyRecord, OnQuotaExhausted
from schemas.usage import Usage
from services.proxy.attempts import ATTEMPTS_MAX, WAIT_S_MAX, first_attempt
from services.proxy.auth import OwnCredential
from services.proxy.body import read_body
from services.proxy.draft import Admitted, Draft, Prepared
from services.proxy.headers import RawHeaders
from services.proxy.health import Health, Trouble
from services.proxy.rates import Rates
from services.proxy.seats import SpentSeats
from services.proxy.setup import make_setup
from services.runtime.registry import RegistrySnapshot

OWN = OwnCredential(b"authorization", b"Bearer sk-ant-oat01-x", is_subscription=True)
REJECTED = [
    (b"anthropic-ratelimit-unified-status", b"rejected"),
    (b"anthropic-ratelimit-unified-reset", b"300"),
]
BODY = b'{"model": "m", "max_tokens": 1}'
NAMES = ("m", "b", "c")
STATUSES: Mapping[Trouble, int] = {
    Trouble.LIMITED: 429,
    Trouble.OWN_LIMIT: 429,
    Trouble.OVERLOADED: 529,
    Trouble.UNCLEAR: 500,
}


def deployment(name: str, place: int = 0, **fields: Any) -> Deployment:
    fields = {"api_key": "k", **fields}
    return Deployment(deployment_id=f"{name}/{place}", model_name=name, model=name, **fields)


def prepared(
    deployments: list[Deployment],
    rules: RouterSettings,
    *,
    own: OwnCredential | None = None,
    models: tuple[str, ...] = (),
    session: str | None = "s",
    on_quota_exhausted: OnQuotaExhausted | None = None,
) -> Prepared:
    config = GatewayConfig(path="c", deployments=tuple(deployments), router=rules)
    draft = Draft("tg_first", 1, "messages", make_setup(config, "sk-master"))
    draft.key = KeyRecord(key_id="key", key_hash="0" * 64, key_name="sk-...x", models=models)
    draft.model_name, draft.session_id = "m", session
    draft.on_quota_exhausted = on_quota_exhausted
    return Prepared(draft, b"/v1/messages", [(b"x", b"y")], BODY, read_body(BODY), own)


def begin(
    asked: Prepared,
    health: Health,
    seats: SpentSeats | None = None,
    rates: Rates | None = None,
) -> Admitted:
    group, star = asked.draft.setup.router.find("m")
    rates = rates or Rates(RegistrySnapshot(), lambda: 0.0)
    return first_attempt(asked, group, star, health, seats or SpentSeats(lambda: 0), rates)


def deployment_of(admitted: Admitted) -> str:
    assert admitted.facts.deployment is not None
    return admitted.facts.deployment


def after(
    admitted: Admitted, trouble: Trouble, headers: RawHeaders | None = None
) -> Admitted | None:
    """Return what follows on an attempt that went wrong so."""
    assert admitted.attempts is not None
    if trouble is Trouble.UNSENT:
        return admitted.attempts.after_error(
            UpstreamUnreachable("refused", kind="upstream_connect", was_sent=False)
        )
    return admitted.attempts.after_answer(STATUSES[trouble], headers or [])


DEPLOYMENTS = st.lists(
    st.builds(
        deployment,
        st.sampled_from(NAMES),
        st.integers(0, 6),
        api_key=st.sampled_from(["k", None]),
        forward_client_auth=st.booleans(),
        weight=st.sampled_from([0.0, 1.0, 3.0]),
        order=st.sampled_from([None, 1, 2]),
        max_parallel_requests=st.sampled_from([None, 1]),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda each: each.deployment_id,
)
RULES = st.builds(
    RouterSettings,
    num_retries=st.sampled_from([0, 0, 1, 3, 10]),
    retry_after_s=st.sampled_from([0.0, 3.0]),
    allowed_fails=st.sampled_from([None, 0, 3]),
    cooldown_s=st.sampled_from([0.0, 5.0, 60.0]),
    fallbacks=st.dictionaries(
        st.sampled_from(["m", "b", "*"]),
        st.lists(st.sampled_from(NAMES), max_size=3, unique=True).map(tuple),
    ),
)


@settings(deadline=None)  # the machine may be busy
@given(
    DEPLOYMENTS,
    RULES,
    st.sampled_from([None, OWN]),
    st.lists(st.sampled_from(list(Trouble)), min_size=20, max_size=20),
    st.sampled_from([None, "pay", "refuse"]),
    st.sampled_from([REJECTED, []]),
)
def test_whatever_goes_wrong_the_rules_about_money_hold(
    deployments: list[Deployment],
    rules: RouterSettings,
    own: OwnCredential | None,
    troubles: list[Trouble],
    rule: OnQuotaExhausted | None,
    told: RawHeaders,
) -> None:
    # Given any deployments, settings and course of failures, then a request is sent so often at
    # most, what may have been billed is not repeated unasked, who pays changes within a name where
    # a quota is used up and the key pays alone, every attempt has an id of its own, and none is
    # left counted.
    deployments = [*deployments, deployment("m", 9)]
    health = Health(lambda: 100.0)
    try:
        now: Admitted | None = begin(
            prepared(deployments, rules, own=own, on_quota_exhausted=rule), health
        )
    except (Unavailable, Unauthenticated):
        return
    seen: list[Admitted] = []
    for trouble in troubles:
        assert now is not None
        seen.append(now)
        assert sum(health.busy(each.deployment_id) for each in deployments) == 1
        is_own = now.facts.billing == "subscription"
        if trouble in {Trouble.LIMITED, Trouble.OWN_LIMIT}:
            trouble = Trouble.OWN_LIMIT if is_own else Trouble.LIMITED  # noqa: PLW2901
        following = after(now, trouble, told if is_own else [])
        if following is None:
            break
        is_spent = bool(told) and trouble is Trouble.OWN_LIMIT
        assert not (is_spent and rule == "refuse")
        assert following.attempts is not None
        assert following.attempts.wait_s <= WAIT_S_MAX
        if trouble is Trouble.UNCLEAR:
            assert rules.num_retries
        name, next_name = (deployment_of(each).partition("/")[0] for each in (now, following))
        if following.facts.route_reason is not None:
            assert rule == "pay"
            assert following.facts.billing == "api"
            assert following.upstream.headers[-1] == (b"x-api-key", b"k")
            assert is_spent or now.facts.route_reason is not None
        elif name == next_name:
            assert following.facts.billing == now.facts.billing
            assert trouble is not Trouble.OWN_LIMIT
        now = following
    else:
        raise AssertionError("no request is sent for ever")
    assert len(seen) <= ATTEMPTS_MAX
    for each in seen:
        # No credential ever goes where the other belongs.
        is_own = each.facts.billing == "subscription"
        assert each.upstream.headers[-1][1] == (OWN.value if is_own else b"k")
    ids = [each.facts.request_id for each in seen]
    assert len(set(ids)) == len(ids)
    assert [each.facts.attempt_of for each in seen] == [None] + ["tg_first"] * (len(seen) - 1)
    assert sum(health.busy(each.deployment_id) for each in deployments) == 0
    if not rules.num_retries:
        asked = [(deployment_of(each), each.facts.billing) for each in seen]
        assert len(set(asked)) == len(asked)


def test_each_fallback_is_tried_in_its_order_and_fallbacks_of_fallbacks_are_not() -> None:
    # Given m -> c, b and b -> d, then c and b are tried, and d is not.
    rules = RouterSettings(fallbacks={"m": ("c", "b"), "b": ("d",)})
    health = Health(lambda: 0.0)
    now: Admitted | None = begin(prepared([deployment(n) for n in "mbcd"], rules), health)
    asked = []
    while now is not None:
        asked.append(deployment_of(now))
        now = after(now, Trouble.OVERLOADED)
    assert asked == ["m/0", "c/0", "b/0"]


def test_what_may_have_been_billed_goes_nowhere_unless_the_file_says_so() -> None:
    # Given another deployment and a fallback, when no answer comes, then neither is asked; with
    # one repetition one of three is, and then the fallback.
    deployments = [*(deployment("m", place) for place in range(3)), deployment("b")]
    for num_retries, expected in ((0, ["m"]), (1, ["m", "m", "b", "b"])):
        rules = RouterSettings(num_retries=num_retries, fallbacks={"m": ("b",)})
        now: Admitted | None = begin(prepared(deployments, rules), Health(lambda: 0.0))
        asked = []
        while now is not None:
            asked.append(deployment_of(now).partition("/")[0])
            now = after(now, Trouble.UNCLEAR)
        assert asked == expected


def test_a_fallback_that_the_key_may_not_use_is_left_out() -> None:
    # Given two fallbacks, one of which the key may use, then it alone is asked.
    rules = RouterSettings(fallbacks={"m": ("b", "c")})
    asked = prepared([deployment(name) for name in "mbc"], rules, models=("m", "c"))
    following = after(begin(asked, Health(lambda: 0.0)), Trouble.OVERLOADED)
    assert following is not None
    assert deployment_of(following) == "c/0"


def test_a_deployment_that_has_all_that_it_may_have_is_passed_over() -> None:
    # Given deployments with room for one request each, then each gets one; the next is refused.
    health = Health(lambda: 0.0)
    deployments = [deployment("m", place, max_parallel_requests=1) for place in range(2)]
    running = [begin(prepared(deployments, RouterSettings()), health) for _ in range(2)]
    assert {deployment_of(each) for each in running} == {"m/0", "m/1"}
    with pytest.raises(Unavailable, match="max_parallel_requests"):
        begin(prepared(deployments, RouterSettings()), health)
    assert running[0].attempts is not None
    running[0].attempts.over()
    running[0].attempts.over()
    again = begin(prepared(deployments, RouterSettings()), health)
    assert deployment_of(again) == deployment_of(running[0])


def test_the_same_deployment_is_asked_again_after_longer_and_longer_waits() -> None:
    # Given one deployment and three repetitions, then they wait a half, one and two seconds.
    rules = RouterSettings(num_retries=3)
    now: Admitted | None = begin(prepared([deployment("m")], rules), Health(lambda: 0.0))
    waits = []
    while now is not None:
        assert now.attempts is not None
        waits.append(now.attempts.wait_s)
        now = after(now, Trouble.UNCLEAR)
    assert waits == [0.0, 0.5, 1.0, 2.0]


def test_a_deployment_that_cools_down_for_long_is_not_waited_for() -> None:
    # Given a limit of a minute, then there is no repetition, though one is configured.
    now = begin(prepared([deployment("m")], RouterSettings(num_retries=3)), Health(lambda: 0.0))
    assert now.attempts is not None
    assert now.attempts.after_answer(429, [(b"retry-after", b"60")]) is None


def test_where_all_cool_down_the_one_that_is_due_first_is_asked() -> None:
    # Given all of a group cooling down, then the first to be well is asked, not refused.
    rules, health = RouterSettings(), Health(lambda: 0.0)
    deployments = [deployment("m", place) for place in range(3)]
    for each, pause_s in zip(deployments, (30, 10, 20), strict=True):
        health.failed(each.deployment_id, Trouble.LIMITED, rules, retry_after_s=pause_s)
    assert deployment_of(begin(prepared(deployments, rules), health)) == "m/1"


def test_where_all_cool_down_a_fallback_that_is_well_comes_first() -> None:
    # Given the same and a fallback, then it is asked; and where it cools down too, the group is.
    rules, health = RouterSettings(fallbacks={"m": ("b",)}), Health(lambda: 0.0)
    deployments = [deployment("m"), deployment("b")]
    health.failed("m/0", Trouble.LIMITED, rules, retry_after_s=30)
    assert deployment_of(begin(prepared(deployments, rules), health)) == "b/0"
    health.failed("b/0", Trouble.LIMITED, rules, retry_after_s=5)
    assert deployment_of(begin(prepared(deployments, rules), health)) == "m/0"


def test_a_request_without_a_credential_is_refused_and_no_fallback_pays_for_it() -> None:
    # Given a model for clients' own credentials alone, then none of them is an error, fallback or
    # no fallback.
    deployments = [deployment("m", api_key=None, forward_client_auth=True), deployment("b")]
    asked = prepared(deployments, RouterSettings(fallbacks={"m": ("b",)}))
    with pytest.raises(Unauthenticated, match="No Anthropic credential"):
        begin(asked, Health(lambda: 0.0))


def test_deployments_without_a_credential_for_the_request_are_passed_over() -> None:
    # Given one deployment that may see clients' credentials and one without any, then the first.
    deployments = [
        deployment("m", 0, api_key=None, order=1),
        deployment("m", 1, api_key=None, forward_client_auth=True, order=2),
    ]
    now = begin(prepared(deployments, RouterSettings(), own=OWN), Health(lambda: 0.0))
    assert deployment_of(now) == "m/1"


def test_least_busy_is_for_requests_without_a_session() -> None:
    # Given requests under way, then one without a session goes where the fewest are for the
    # weight, and a session goes to its own deployment.
    rules, health = RouterSettings(routing_strategy="least-busy"), Health(lambda: 0.0)
    deployments = [deployment("m", 0, weight=3), deployment("m", 1), deployment("m", 2)]
    own = deployment_of(begin(prepared(deployments, rules), Health(lambda: 0.0)))
    for name, count in (("m/0", 5), ("m/1", 2), ("m/2", 3)):
        for _ in range(count):
            health.began(name)
    assert deployment_of(begin(prepared(deployments, rules, session=None), health)) == "m/0"
    health.began("m/0")
    health.began("m/0")
    assert deployment_of(begin(prepared(deployments, rules, session=None), health)) == "m/1"
    for _ in range(50):
        health.began(own)
    assert deployment_of(begin(prepared(deployments, rules), health)) == own


def test_an_error_for_the_client_names_what_was_tried() -> None:
    # Given two deployments that cannot be reached, then the message names both in their order.
    deployments = [deployment("m", 0, order=1), deployment("m", 1, order=2)]
    first = begin(prepared(deployments, RouterSettings()), Health(lambda: 0.0))
    error = UpstreamUnreachable("refused", kind="upstream_connect", was_sent=False)
    assert first.attempts is not None
    assert first.attempts.told(error).message == "refused"
    assert after(first, Trouble.UNSENT) is not None
    assert first.attempts.told(error).message == "refused (tried: m/0, m/1)"


def seat_and_key() -> list[Deployment]:
    """Return a deployment for subscriptions and one with an API key, which is ranked first."""
    return [
        deployment("m", 0, api_key=None, forward_client_auth=True, order=2),
        deployment("m", 1, order=1),
    ]


def test_a_key_that_pays_goes_on_over_the_api_key_and_back_when_the_window_ends() -> None:
    # Given a seat beside an API key, when the key pays and the quota is used up, then the same
    # request goes to the API key, the next ones too, and after the reset the seat is asked again.
    now_us = [0]
    seats, health = SpentSeats(lambda: now_us[0]), Health(lambda: 0.0)

    def one() -> Admitted:
        asked = prepared(seat_and_key(), RouterSettings(), own=OWN, on_quota_exhausted="pay")
        return begin(asked, health, seats)

    first = one()
    assert (deployment_of(first), first.facts.billing) == ("m/0", "subscription")
    assert first.facts.route_reason is None
    paid = after(first, Trouble.OWN_LIMIT, REJECTED)
    assert paid is not None
    following = one()
    for each in (paid, following):
        assert (deployment_of(each), each.facts.billing) == ("m/1", "api")
        assert each.facts.route_reason == "quota_exhausted"
        assert (OWN.header, OWN.value) not in each.upstream.headers
    assert (paid.facts.attempt_of, following.facts.attempt_of) == ("tg_first", None)
    now_us[0] = 300_000_000
    assert one().facts.billing == "subscription"
    assert (seats.paid, seats.unpaid) == (2, 0)


def test_one_deployment_with_both_credentials_serves_the_seat_and_then_the_key() -> None:
    # Given one deployment that forwards credentials and has an api_key, then it is asked twice.
    both = [deployment("m", api_key="k", forward_client_auth=True)]
    asked = prepared(both, RouterSettings(), own=OWN, on_quota_exhausted="pay")
    paid = after(begin(asked, Health(lambda: 0.0)), Trouble.OWN_LIMIT, REJECTED)
    assert paid is not None
    assert (deployment_of(paid), paid.facts.billing) == ("m/0", "api")


@pytest.mark.parametrize(("rule", "headers"), [(None, REJECTED), ("refuse", REJECTED), ("pay", [])])
def test_nobody_pays_unless_the_key_says_so_and_the_quota_is_used_up(
    rule: OnQuotaExhausted | None, headers: RawHeaders
) -> None:
    # Given an API key beside the seat, when the key does not pay, or a 429 is about something
    # else, then the answer goes to the client.
    deployments = [deployment("m", 0, api_key=None, forward_client_auth=True), deployment("b")]
    deployments.append(deployment("m", 1, order=9))
    asked = prepared(deployments, RouterSettings(), own=OWN, on_quota_exhausted=rule)
    assert after(begin(asked, Health(lambda: 0.0)), Trouble.OWN_LIMIT, headers) is None


def test_a_key_that_refuses_takes_no_fallback_for_a_quota_and_one_that_says_nothing_does() -> None:
    # Given a fallback, then "refuse" is stronger than it, and silence is not.
    deployments = [deployment("m", api_key=None, forward_client_auth=True), deployment("b")]
    rules = RouterSettings(fallbacks={"m": ("b",)})
    for rule, expected in ((None, "b/0"), ("pay", "b/0"), ("refuse", None)):
        asked = prepared(deployments, rules, own=OWN, on_quota_exhausted=rule)
        following = after(begin(asked, Health(lambda: 0.0)), Trouble.OWN_LIMIT, REJECTED)
        assert (following and deployment_of(following)) == expected


def test_where_no_api_key_is_well_the_seats_own_refusal_reaches_the_client() -> None:
    # Given a seat that is spent and an API key that cools down, then the seat is asked all the
    # same, and its answer, with its reset, is the client's.
    seats, health, rules = SpentSeats(lambda: 0), Health(lambda: 0.0), RouterSettings()
    seats.was_refused(OWN.value, "m", REJECTED)
    health.failed("m/1", Trouble.LIMITED, rules, retry_after_s=60)
    asked = prepared(seat_and_key(), rules, own=OWN, on_quota_exhausted="pay")
    now = begin(asked, health, seats)
    assert (deployment_of(now), now.facts.billing) == ("m/0", "subscription")
    assert after(now, Trouble.OWN_LIMIT, REJECTED) is None
    assert (seats.paid, seats.unpaid) == (0, 1)


def test_deployment_that_has_had_its_minute_is_passed_over_until_it_has_room() -> None:
    # Given two deployments, of one request and of 1,000 tokens a minute,
    now_s = [0.0]
    rates = Rates(RegistrySnapshot(), lambda: now_s[0])
    health = Health(lambda: now_s[0])
    both = [deployment("m", 0, rpm=1, order=1), deployment("m", 1, tpm=1000, order=2)]
    rules = RouterSettings()
    # when requests come, then the first gets one, and the second what is more,
    first = begin(prepared(both, rules), health, rates=rates)
    second = begin(prepared(both, rules), health, rates=rates)
    assert [deployment_of(each) for each in (first, second)] == ["m/0", "m/1"]
    # until it has used its tokens; then they are refused until one of both has room again,
    for admitted in (first, second):
        assert admitted.attempts is not None
        admitted.attempts.used(Usage(input_tokens=600, output_tokens=400))
        admitted.attempts.over()
    now_s[0] += 20.0
    with pytest.raises(RateLimited, match="model m: 1 requests a minute") as no:
        begin(prepared(both, rules), health, rates=rates)
    assert no.value.headers["retry-after"] == "41"
    # unless a fallback can serve them, or they count tokens, which is free.
    rules = RouterSettings(fallbacks={"m": ("b",)})
    fallen = begin(prepared([*both, deployment("b")], rules), health, rates=rates)
    assert deployment_of(fallen) == "b/0"
    counting = prepared(both, rules)
    counting.draft.endpoint = "count_tokens"
    assert deployment_of(begin(counting, health, rates=rates)) == "m/0"
    now_s[0] += 40.1
    assert deployment_of(begin(prepared(both, rules), health, rates=rates)) == "m/0"


def test_each_attempt_counts_at_the_deployment_that_it_was_made_at() -> None:
    # Given two deployments of two requests a minute, when the first fails and the second answers,
    # then each has had one.
    rates = Rates(RegistrySnapshot(), lambda: 0.0)
    both = [deployment("m", 0, rpm=2, order=1), deployment("m", 1, rpm=2, order=2)]
    admitted = begin(prepared(both, RouterSettings()), Health(lambda: 0.0), rates=rates)
    again = after(admitted, Trouble.OVERLOADED)
    assert again is not None
    for each in both:
        limits = rates.of_deployment(each)
        assert limits is not None
        assert [tally.level(0.0) for tally in limits.requests] == [1]
