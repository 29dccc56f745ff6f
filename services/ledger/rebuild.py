"""When books must be built anew from the stream, and what becomes of the old file.

What the projection makes is a function of the stream and of the version of this program. So what
a newer version understands better (an older file's tables, an event that could not be read) is put
right by building the books anew, never by a change in place: the writer, the reader and a replay
then still agree, and each event is in its own place (docs/adr/0012).
"""

import hashlib
import logging
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from services.ledger.projection import why_unreadable
from services.ledger.store import Store
from services.runtime.price_book import PriceBook

__all__ = ["LETTERS_TRIED_MAX", "Retry", "files_of", "retry_due", "set_aside"]

log = logging.getLogger(__name__)

LETTERS_TRIED_MAX = 100_000
"""So many dead letters, the oldest first, are tried at a start."""
_MARK = "dead_letters_retried"


class Retry(msgspec.Struct, frozen=True):
    """Dead letters that this version can read: how many, and a mark that tells them from others."""

    letters: int
    mark: str

    @property
    def reason(self) -> str:
        """Why the books are built anew, in words."""
        return f"{self.letters} of its dead letters can now be read"

    def note(self, store: Store) -> None:
        """Let new books know that they were built for these letters: it is not done twice."""
        store.set_meta(_MARK, self.mark)


def retry_due(store: Store, book: PriceBook) -> Retry | None:
    """Return which dead letters this version can read; None where no rebuild would change a row.

    A letter of which the books have only the first bytes is left: a rebuild for another reason
    reads it whole.
    """
    marks = hashlib.sha256()
    letters = 0
    for letter in store.dead_letters(LETTERS_TRIED_MAX):
        if len(letter.payload) < letter.payload_bytes:
            continue
        if why_unreadable(book, letter.payload, letter.position) is None:
            letters += 1
            marks.update(f"{letter.stream_sequence}:{letter.position},".encode())
    mark = marks.hexdigest()
    # Built for the very same letters before, they are there again: it would be so for ever.
    if not letters or store.meta(_MARK) == mark:
        return None
    return Retry(letters, mark)


def files_of(path: Path) -> tuple[Path, Path]:
    """Return the files that a DuckDB database consists of, in the order in which to move them."""
    # The log first: left alone beside another file of that name it would be taken for its own.
    return path.with_name(path.name + ".wal"), path


def set_aside(path: Path) -> Path:
    """Rename a closed database; return its new name. It is kept until somebody deletes it."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    aside = path.with_name(f"{path.name}.{stamp}.old")
    for file, target in zip(files_of(path), files_of(aside), strict=True):
        if file.exists():
            file.rename(target)
    return aside
