"""Dead letters: which of them this version can read, and books in which these are counted.

They are counted by building the books anew (services.ledger.rebuild says why); a ledger that starts
does so by itself. This does it for a ledger that does not run.
"""

from pathlib import Path

import msgspec

from schemas.errors import ConfigError
from schemas.rpc import QueryReply, QueryRequest
from schemas.streams import QUERY_SUBJECT
from services.ledger.projection import why_unreadable
from services.ledger.rebuild import LETTERS_TRIED_MAX, files_of, retry_due, set_aside
from services.ledger.replay import Replayed, TellProgress, replay
from services.ledger.store import DeadLetter, Store
from services.runtime.bus import Bus
from services.runtime.price_book import PriceBook

__all__ = ["Judged", "judge", "letters_of_file", "letters_of_running", "rebuild_with_letters"]

LETTERS_ASKED_MAX = 20
"""So many letters are asked for in one query: their bytes must fit one answer."""
_QUERY = (
    "SELECT stream_sequence, position, payload, payload_bytes FROM dead_letters "
    "WHERE (stream_sequence, position) > ($1, $2) ORDER BY stream_sequence, position LIMIT $3"
)


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter; `unreadable` says why it cannot be read, None: this version can read it."""

    stream_sequence: int
    position: int
    payload_bytes: int
    unreadable: str | None


def judge(letters: list[DeadLetter], book: PriceBook) -> list[Judged]:
    """Tell of each letter whether this version can read it."""
    return [
        Judged(
            stream_sequence=letter.stream_sequence,
            position=letter.position,
            payload_bytes=letter.payload_bytes,
            unreadable=why_unreadable(book, letter.payload, letter.position)
            if len(letter.payload) == letter.payload_bytes
            else "the books hold only its beginning; a rebuild reads it whole, from the stream",
        )
        for letter in letters
    ]


def letters_of_file(path: Path) -> list[DeadLetter]:
    """Return the letters of a file that nobody has open. Raises ConfigError."""
    if not path.exists():
        raise ConfigError(f"there are no books at {path}: is this the right data folder?")
    store = Store(path)
    try:
        return list(store.dead_letters(LETTERS_TRIED_MAX))
    finally:
        store.close()


async def letters_of_running(bus: Bus) -> list[DeadLetter]:
    """Return the letters that a running reader has. Raises BusUnavailable, ConfigError."""
    letters: list[DeadLetter] = []
    last = (-1, -2)
    while len(letters) < LETTERS_TRIED_MAX:
        parameters = (*last, LETTERS_ASKED_MAX)
        request = msgspec.json.encode(QueryRequest(query=_QUERY, parameters=parameters))
        reply = msgspec.json.decode(await bus.request(QUERY_SUBJECT, request), type=QueryReply)
        if reply.error is not None:
            raise ConfigError(f"the ledger's reader does not tell its dead letters: {reply.error}")
        if not reply.rows:
            break
        letters += [
            DeadLetter(sequence, position, bytes.fromhex(payload), length)
            for sequence, position, payload, length in reply.rows
        ]
        last = (letters[-1].stream_sequence, letters[-1].position)
    return letters


async def rebuild_with_letters(
    bus: Bus, path: Path, archives: Path, tell: TellProgress
) -> tuple[Replayed, Path]:
    """Build the books at `path` anew, where nobody has them open.

    Returns what was built and where the old file is now. Raises ConfigError; the old file is
    where it was then.
    """
    book = PriceBook.load()
    store = Store(path)
    try:
        due = retry_due(store, book)
    finally:
        store.close()
    new = path.with_name(path.name + ".new")
    for file in files_of(new):
        file.unlink(missing_ok=True)
    replayed = await replay(bus, new, archives, until=None, tell=tell)
    store = Store(new)
    try:
        if due is not None:
            due.note(store)
    finally:
        store.close()
    aside = set_aside(path)
    new.rename(path)
    return replayed, aside
