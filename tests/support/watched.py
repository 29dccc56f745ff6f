"""The command line with a window: SIGUSR2 makes the process write how many tasks it has.

python -m tests.support.watched proxy …; the number goes into the file of TALLYGATE_TEST_TASKS.
With TALLYGATE_TEST_TRANSPORT=httpx the proxy forwards with httpx instead of its own client.
"""

import asyncio
import os
import signal
from pathlib import Path

from services.cli import main

__all__: list[str] = []


def _write_tasks(*_: object) -> None:
    path = Path(os.environ["TALLYGATE_TEST_TASKS"])
    made = path.with_suffix(".new")
    made.write_text(str(len(asyncio.all_tasks())))
    made.rename(path)


if __name__ == "__main__":
    if os.environ.get("TALLYGATE_TEST_TRANSPORT") == "httpx":
        from services.proxy import app
        from tests.support.httpx_transport import HttpxTransport

        app.UpstreamPool = HttpxTransport  # type: ignore[assignment, misc]
    signal.signal(signal.SIGUSR2, _write_tasks)
    main()
