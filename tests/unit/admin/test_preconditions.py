"""What If-Match demands: a pure rule over headers."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import BadRequest
from services.admin.preconditions import ETAGS_MAX, Condition, condition_in, etag_header


@given(
    sequences=st.lists(st.integers(1, 2**62), min_size=1, max_size=ETAGS_MAX),
    other=st.integers(0, 2**62),
    is_split=st.booleans(),
)
def test_exactly_the_states_are_admitted_that_were_answered_as_etags(
    *, sequences: list[int], other: int, is_split: bool
) -> None:
    # Given the ETags of some states, when they are sent back in one header or in several, then
    # exactly these states are admitted.
    etags = [etag_header(sequence)["etag"].encode() for sequence in sequences]
    values = etags if is_split else [b" , ".join(etags)]
    condition = condition_in([(b"accept", b"*"), *((b"if-match", value) for value in values)])
    assert condition == Condition(frozenset(sequences))
    assert all(condition.admits(sequence) for sequence in sequences)
    assert condition.admits(other) == (other in sequences)
    assert condition.newest == max(sequences)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=3))
def test_any_value_is_a_demand_or_is_refused(values: list[bytes]) -> None:
    # Given any bytes, when they are read, then they demand something or are refused by name; a
    # record without any event (sequence 0) never fits.
    with suppress(BadRequest):
        condition = condition_in([(b"if-match", value) for value in values])
        assert condition is not None
        assert not condition.admits(0)


def test_a_star_admits_whatever_there_is_and_no_header_demands_nothing() -> None:
    # Given `*`, then any state but none; given no header, then no demand.
    star = condition_in([(b"if-match", b"*")])
    assert star is not None
    assert star.admits(1)
    assert not star.admits(0)
    assert condition_in([(b"if-none-match", b'"1"')]) is None


def test_tags_of_somebody_else_fit_nothing() -> None:
    # Given a well-formed ETag that is no sequence, then it is no error and fits no state.
    for value in (b'"abc"', b'""', b'"0"', b'"007"', b'W/"-1"'):
        condition = condition_in([(b"if-match", value)])
        assert condition == Condition(frozenset())
        assert not condition.admits(7)


def test_more_tags_than_one_request_may_change_are_refused() -> None:
    many = b",".join(b'"%d"' % number for number in range(1, ETAGS_MAX + 2))
    with pytest.raises(BadRequest):
        condition_in([(b"if-match", many)])
