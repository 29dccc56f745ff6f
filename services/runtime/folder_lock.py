"""The lock on a data folder: one `tallygate serve` at a time."""

import contextlib
import fcntl
import os
import time

from schemas.errors import ConfigError
from services.runtime.folder import DataFolder

__all__ = ["lock_folder"]

LOCK_WAIT_S = 2.0
"""Processes of a supervisor that was killed may take so long to be gone."""
LOCK_POLL_S = 0.05


def lock_folder(folder: DataFolder) -> int:
    """Take the lock; return the file descriptor that holds it.

    Children inherit the descriptor, so that the lock is free only when the last process that
    writes in the folder has ended. Raises ConfigError where another one holds it.
    """
    path = folder.run / "serve.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(LOCK_POLL_S)
                continue
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            who = f" (process {holder})" if holder else ""
            raise ConfigError(
                f"the data folder {folder.path} is in use by another `tallygate serve`{who}: "
                "end that one first, or give this one a folder of its own with --data DIR"
            ) from None
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor
