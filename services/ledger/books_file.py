"""Opens the file of the books, and tells what is wrong with it where that cannot be done."""

from pathlib import Path

import duckdb

from schemas.errors import ConfigError

__all__ = ["BooksOutdated", "BooksUnreadable", "open_books"]

MEMORY_LIMIT = "1GB"
THREADS = 2
WAL_CHECKPOINT = "64MB"


class BooksUnreadable(ConfigError):
    """The file is damaged, or of another version; the message says what to do."""


class BooksOutdated(BooksUnreadable):
    """The file is whole, but another one must be built from the stream in its place.

    `stream_created` tells which stream that is; None: any, since nothing was taken in yet.
    """

    def __init__(self, message: str, stream_created: str | None) -> None:
        super().__init__(message)
        self.stream_created = stream_created


def open_books(path: Path) -> duckdb.DuckDBPyConnection:
    """Open the file for writing. Raises ConfigError (another process has it), BooksUnreadable."""
    try:
        return duckdb.connect(
            str(path),
            config={
                "threads": THREADS,
                "memory_limit": MEMORY_LIMIT,
                "checkpoint_threshold": WAL_CHECKPOINT,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "allow_community_extensions": False,
            },
        )
    except duckdb.IOException as error:
        if "lock" in str(error):
            raise ConfigError(
                f"{path} is open in another process: only one ledger may write it (and no other "
                "program may have it open)"
            ) from None
        raise BooksUnreadable(_damaged(path, error)) from None
    except duckdb.Error as error:
        raise BooksUnreadable(_damaged(path, error)) from None


def _damaged(path: Path, error: Exception) -> str:
    """Say that the file is damaged, and what to do."""
    reason = str(error).split("\n", 1)[0][:300]
    return (
        f"{path} cannot be opened ({reason}): move it and its .wal away and start again, "
        "it is built anew from the stream"
    )
