"""Reads a file of the books that no process has open."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from schemas.errors import ConfigError
from services.ledger.store import SCHEMA_VERSION

__all__ = ["read_books"]


@contextmanager
def read_books(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Have the books of this version open, to read, so that nobody writes them meanwhile.

    Raises ConfigError where another version wrote them, and duckdb.Error where they cannot be read.
    """
    connection = duckdb.connect(str(path), read_only=True)
    try:
        version = connection.execute(
            "SELECT value FROM meta WHERE name = 'schema_version'"
        ).fetchone()
        if version is None or version[0] != SCHEMA_VERSION:
            raise ConfigError(
                f"{path} was written by another version of tallygate: start the gateway with this "
                "version, which brings it up to date"
            )
        yield connection
    finally:
        connection.close()
