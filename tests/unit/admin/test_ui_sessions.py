"""The dashboard's sessions: who cannot sign opens none, and what ended stays ended."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.keys import hash_key
from services.admin.ui.sessions import SESSION_S, SIGNED_OUT_MAX, Session, Sessions

MASTER = "sk-master-0123456789"
NOW_S = 1_800_000_000


def opened(sessions: Sessions, key_id: str | None = None) -> str:
    return sessions.open(key_id, hash_key(MASTER), MASTER, NOW_S)


def test_session_is_read_back_until_it_expires() -> None:
    # Given a session, when it is read, then it names its credential, holds no secret, and expires.
    sessions = Sessions()
    cookie = opened(sessions, "key_1")
    session = sessions.read(cookie, MASTER, NOW_S + SESSION_S - 1)
    assert session is not None
    assert session.key_id == "key_1"
    assert session.is_of(hash_key(MASTER))
    assert not session.is_of(hash_key("another"))
    assert MASTER not in cookie
    assert hash_key(MASTER) not in cookie
    assert sessions.read(cookie, MASTER, NOW_S + SESSION_S) is None


def test_new_master_key_ends_every_session() -> None:
    sessions = Sessions()
    assert sessions.read(opened(sessions), "sk-another-master", NOW_S) is None


@given(st.integers(0, 400), st.characters(max_codepoint=126, min_codepoint=33))
def test_changed_cookie_opens_nothing(position: int, character: str) -> None:
    # Given a cookie, when any of its characters is another, then it opens nothing.
    sessions = Sessions()
    cookie = opened(sessions, "key_1")
    at = position % len(cookie)
    changed = cookie[:at] + character + cookie[at + 1 :]
    assert (sessions.read(changed, MASTER, NOW_S) is None) == (changed != cookie)


@given(st.text(max_size=2000))
def test_any_text_is_no_session_and_no_fault(text: str) -> None:
    assert Sessions().read(text, MASTER, NOW_S) is None


def test_logged_out_session_stays_ended_and_their_memory_is_bounded() -> None:
    # Given a session that was logged out, when it comes back, then it opens nothing; however many
    # others are logged out, no more than the limit are remembered.
    sessions = Sessions()
    cookie = opened(sessions)
    session = sessions.read(cookie, MASTER, NOW_S)
    assert session is not None
    sessions.end(session, NOW_S)
    assert sessions.read(cookie, MASTER, NOW_S) is None
    for number in range(SIGNED_OUT_MAX + 5):
        other = Session(
            session_id=str(number), key_id=None, secret_hash="", expires_s=NOW_S + SESSION_S
        )
        sessions.end(other, NOW_S)
    assert len(sessions._signed_out) == SIGNED_OUT_MAX


def test_csrf_token_is_of_one_session() -> None:
    sessions = Sessions()
    first, second = (sessions.read(opened(sessions), MASTER, NOW_S) for _ in range(2))
    assert first is not None
    assert second is not None
    assert sessions.csrf_token(first, MASTER) == sessions.csrf_token(first, MASTER)
    assert sessions.csrf_token(first, MASTER) != sessions.csrf_token(second, MASTER)
