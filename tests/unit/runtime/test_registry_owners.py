"""Teams and users in the registry's snapshot: found by what keys name, kept on disk."""

from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from schemas.events import TeamCreated, UserCreated, encode_event
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from schemas.streams import subject_token, team_subject, user_subject
from services.runtime.budget_limits import member_id, member_of
from services.runtime.bus import StreamMessage
from services.runtime.registry import RegistrySnapshot

KEY = KeyRecord(key_id="k", key_hash="h", key_name="sk-...abcd", team_id="a.b", user_id="u@x.y")


def taken() -> RegistrySnapshot:
    snapshot = RegistrySnapshot()
    now = datetime.now(UTC)
    team = TeamCreated(source="/admin", id="1", time=now, data=TeamRecord(team_id="a.b"))
    user = UserCreated(source="/admin", id="2", time=now, data=UserRecord(user_id="u@x.y"))
    snapshot.apply(StreamMessage(1, team_subject("a.b"), encode_event(team)))
    snapshot.apply(StreamMessage(2, user_subject("u@x.y"), encode_event(user)))
    # On the subject of another: only the place of its own counts.
    snapshot.apply(StreamMessage(3, team_subject("other"), encode_event(team)))
    return snapshot


def test_key_finds_its_team_and_its_user_after_a_restart_too(tmp_path: Path) -> None:
    # Given a team and a user in the stream, when the copy on disk is read by the next process,
    # then a key that names them finds them in both, and one that names nobody finds nobody.
    before = taken()
    before.save(tmp_path / "copy")
    after = RegistrySnapshot()
    assert after.load(tmp_path / "copy")
    for snapshot in (before, after):
        assert snapshot.owners_of(KEY) == [TeamRecord(team_id="a.b"), UserRecord(user_id="u@x.y")]
        assert list(snapshot.teams) == ["a.b"]
        assert snapshot.owners_of(KeyRecord(key_id="n", key_hash="n", key_name="n")) == []
    assert after.sequence == 3


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_any_id_is_one_token_of_a_subject_and_its_own(one: str, other: str) -> None:
    # Given any two ids, when they become tokens, then each is one that NATS takes, and two ids
    # never share one.
    try:
        tokens = subject_token(one), subject_token(other)
    except UnicodeEncodeError:
        return  # No JSON text can hold a lone surrogate.
    assert not set("".join(tokens)) & set(". *>\t\r\n\0")
    assert all(tokens)
    assert (tokens[0] == tokens[1]) == (one == other)


_IDS = st.text("a/%25F|", min_size=1, max_size=6)


@given(_IDS, _IDS, _IDS, _IDS)
def test_any_member_has_an_id_of_its_own(team: str, user: str, other: str, another: str) -> None:
    # Given any two members, when their ids are made, then they are the same only where both are,
    # and tell the team and the user.
    assert member_of(member_id(team, user)) == (team, user)
    is_same = (team, user) == (other, another)
    assert (member_id(team, user) == member_id(other, another)) == is_same
