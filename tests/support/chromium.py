"""Finds the Chromium that the browser tests drive, or installs it.

`python -m tests.support.chromium` does so before the tests, where no test's time runs meanwhile.

It is found in this order: the path in TALLYGATE_CHROMIUM; `chromium` on the PATH. Where there is
none and this is Debian (or Ubuntu) and the user root, as in containers that run tests, apt-get
installs it, once. A browser that cannot be had fails the test: a run without it would prove
nothing.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

__all__ = ["CHROMIUM_ARGUMENTS", "ChromiumUnavailable", "chromium_path"]

CHROMIUM_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""It asks nobody but the page's own host, and runs in a container."""

INSTALL_TIMEOUT_S = 600.0
_VARIABLE = "TALLYGATE_CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_LOCK = Path(__file__).resolve().parents[2] / ".tools" / "chromium.lock"


class ChromiumUnavailable(Exception):
    """There is no Chromium, and none could be installed."""


@cache
def chromium_path() -> Path:
    """Return the executable, installing it first where it must be. Raises ChromiumUnavailable."""
    if given := os.environ.get(_VARIABLE):
        path = Path(given)
        if not os.access(path, os.X_OK):
            raise ChromiumUnavailable(f"{_VARIABLE} names {path}, which is no program")
        return path
    if found := _found():
        return found
    _LOCK.parent.mkdir(exist_ok=True)
    # Tests that run side by side install once.
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _found() or _installed()


def _found() -> Path | None:
    return next((Path(path) for name in _NAMES if (path := shutil.which(name))), None)


def _installed() -> Path:
    apt = shutil.which("apt-get")
    if apt is None or os.getuid() != 0:
        raise ChromiumUnavailable(
            "the browser tests need Chromium: install it (on Debian: apt-get install chromium), or "
            f"give the path of the program in {_VARIABLE}"
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (("update",), ("install", "-y", "--no-install-recommends", "chromium")):
        done = subprocess.run(
            [apt, "-q", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise ChromiumUnavailable(f"apt-get could not install chromium:\n{done.stderr[-2000:]}")
    found = _found()
    if found is None:
        raise ChromiumUnavailable("apt-get installed chromium, and it is not on the PATH")
    return found


def main() -> None:
    """Say which Chromium there is, after installing it where need be; or why there is none."""
    try:
        sys.stdout.write(f"setup: {chromium_path()} is the browser of the tests\n")
    except ChromiumUnavailable as error:
        # The tests that need it say so, and fail.
        sys.stderr.write(f"setup: {error}\n")


if __name__ == "__main__":
    main()
