# noqa: INP001 - a program of the image, which belongs to no package
"""The image's health check: ends with 0 where the part of tallygate in this container is ready.

The address is TALLYGATE_HEALTH_URL. Empty means that the part serves no HTTP; then its process
being alive, which is why this program can run at all, is the whole check.
"""

import os
import sys
import urllib.error
import urllib.request
from http import HTTPStatus

TIMEOUT_S = 4.0
"""Less than the check's own time limit, so that the reason is printed."""


def main() -> int:
    """Ask the address once and return the exit code: 0 for ready, 1 for not."""
    url = os.environ.get("TALLYGATE_HEALTH_URL", "")
    if not url:
        return 0
    if not url.startswith("http://"):
        sys.stderr.write("TALLYGATE_HEALTH_URL must begin with http://\n")
        return 1
    # A proxy named in the environment is for the way out, never for this address.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT_S) as response:
            return 0 if response.status == HTTPStatus.OK else 1
    except (urllib.error.URLError, OSError) as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
