"""Runs the real supervisor over stand-ins, as a process of its own that tests can kill.

`python -m tests.support.supervise FOLDER SPECS_FILE`: the file is a JSON list of objects with
`part`, `arguments` (for stand_in.py), `drain_stage`, `stop_timeout_s` and, for the one that
inherits the listening socket, `listen`. Prints `ready PORT` once all are ready.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from services.runtime import backoff
from services.runtime.child import ChildGivenUp, ChildSpec
from services.runtime.folder import DataFolder
from services.runtime.folder_lock import lock_folder
from services.runtime.listen import address_of, listen
from services.runtime.log_sink import LogSink
from services.runtime.supervisor import Supervisor

__all__: list[str] = []

STAND_IN = Path(__file__).with_name("stand_in.py")


def main() -> int:
    folder = DataFolder(Path(sys.argv[1]))
    # Given up after as many deaths as ever, but sooner.
    backoff.DELAY_MAX_S = 0.2
    lock = lock_folder(folder)
    listening = listen("127.0.0.1", 0)
    _, port = address_of(listening)
    specs = [
        ChildSpec(
            part=entry["part"],
            command=(
                sys.executable,
                str(STAND_IN),
                entry["part"],
                str(folder.path / "events"),
                *entry["arguments"],
                *(["--fd", str(listening.fileno())] if entry.get("listen") else []),
            ),
            environment=dict(os.environ),
            inherited=(lock, *((listening.fileno(),) if entry.get("listen") else ())),
            drain_stage=entry.get("drain_stage", 0),
            stop_timeout_s=entry.get("stop_timeout_s", 10.0),
        )
        for entry in json.loads(Path(sys.argv[2]).read_text())
    ]

    def on_ready() -> None:
        sys.stdout.write(f"ready {port}\n")
        sys.stdout.flush()

    async def run() -> int:
        sink = LogSink(sys.stderr, "debug")
        supervisor = Supervisor(
            specs, sink, folder.run, on_ready=on_ready, on_drain=listening.close
        )
        return await supervisor.run()

    try:
        return asyncio.run(run())
    except ChildGivenUp as error:
        sys.stderr.write(f"{error}\n")
        return 78 if error.exit_code == 78 else 1


if __name__ == "__main__":
    sys.exit(main())
