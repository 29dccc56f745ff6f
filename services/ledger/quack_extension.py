"""DuckDB's extension for Quack, its own protocol: found in a wheel, or where DuckDB keeps its own.

The wheels hold the extension for one version of DuckDB alone. Quack needs httpfs beside it, on
both sides of the wire. Nothing is fetched where the wheels are there.
"""

from importlib.util import find_spec
from pathlib import Path

import duckdb

from schemas.errors import TallygateError

__all__ = ["EXTENSIONS", "QuackMissing", "extension_file", "load_quack"]

EXTENSIONS = ("httpfs", "quack")
"""In the order in which they are loaded."""


class QuackMissing(TallygateError):
    """There is no extension for this version of DuckDB; the message says what to do."""


def extension_file(name: str, version: str = duckdb.__version__) -> Path | None:
    """Return the file of an extension that a wheel has brought for this version of DuckDB."""
    spec = find_spec(f"duckdb_extension_{name}")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "extensions" / f"v{version}" / f"{name}.duckdb_extension"
        if path.is_file():
            return path
    return None


def load_quack(connection: duckdb.DuckDBPyConnection) -> None:
    """Load what Quack needs into the instance of `connection`, which must not be locked yet.

    Without wheels DuckDB is asked to install the extensions, which asks its makers' host. Raises
    QuackMissing where that fails.
    """
    for name in EXTENSIONS:
        path = extension_file(name)
        try:
            if path is not None:
                quoted = str(path).replace("'", "''")
                connection.execute(f"LOAD '{quoted}'")
            else:
                connection.execute(f"INSTALL {name}")
                connection.execute(f"LOAD {name}")
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise QuackMissing(
                f"the extension {name} for DuckDB {duckdb.__version__} is not to be had "
                f"({reason}): everything else works; install duckdb-extension-{name} of the same "
                "version, or set quack_port: 0"
            ) from None
