"""PostgreSQL for a peer, with its own defaults, in a folder of its own.

It does not run as root; started by root, it runs as the user `postgres` of the system's package.
"""

import os
import pwd
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.services import free_port, printed_by, running, until_ready

__all__ = ["postgres"]

READY_TIMEOUT_S = 60.0
SYSTEM_USER = "postgres"
_DEBIAN = Path("/usr/lib/postgresql")


def _program(name: str) -> Path:
    """Return a program of PostgreSQL: from the PATH, or the newest one that Debian installed."""
    on_path = shutil.which(name)
    installed = sorted(_DEBIAN.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    found = Path(on_path) if on_path else installed[-1] if installed else None
    if found is None:
        raise RuntimeError(f"there is no {name}: install PostgreSQL (Debian: postgresql)")
    return found


@contextmanager
def postgres() -> Iterator[tuple[str, int, str]]:
    """Run a new server; yield the URL of its database, its process id and its version.

    Raises RuntimeError where it is not there or fails.
    """
    initdb, server = _program("initdb"), _program("postgres")
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    user = SYSTEM_USER if os.geteuid() == 0 else None
    # Not in the benchmark's folder: that one only its owner may enter.
    with tempfile.TemporaryDirectory(prefix="tallygate-bench-postgres-") as name:
        folder = Path(name)
        if user is not None:
            entry = pwd.getpwnam(user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        data, port = folder / "data", free_port()
        made: list[str | Path] = [
            initdb,
            "-D",
            data,
            "-A",
            "trust",
            "-U",
            "bench",
            "-E",
            "UTF8",
            "--locale=C",
        ]
        printed_by(made, environment, user)
        command: list[str | Path] = [server, "-D", data, "-k", ""]
        command += ["-h", "127.0.0.1", "-p", str(port)]
        log = folder / "postgres.log"
        # SIGINT: it ends open sessions and stops.
        with running(command, log, environment, user=user, stop_with=signal.SIGINT) as process:
            until_ready(process, port, log, READY_TIMEOUT_S)
            version = printed_by([server, "--version"], environment)
            yield f"postgres://bench@127.0.0.1:{port}/postgres", process.pid, version
