"""A stand-in for a service, for tests of the supervisor: says what happens to it, in a file.

`python stand_in.py PART EVENTS_FILE [--ready] [--exit CODE] [--stop-s S] [--ignore-term] [--fd N]`
appends `started PART PID`, `hangup PART PID`, `stopping PART PID` and `stopped PART PID` to it.
"""

import argparse
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import FrameType

__all__: list[str] = []


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("part")
    parser.add_argument("events")
    parser.add_argument("--ready", action="store_true")
    parser.add_argument("--exit", type=int)
    parser.add_argument("--stop-s", type=float, default=0.0)
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--fd", type=int)
    values = parser.parse_args()
    stop = threading.Event()

    def tell(word: str) -> None:
        with Path(values.events).open("ab", buffering=0) as file:
            file.write(f"{word} {values.part} {os.getpid()}\n".encode())

    def on_term(_number: int, _frame: FrameType | None) -> None:
        if not values.ignore_term:
            stop.set()

    def on_hangup(_number: int, _frame: FrameType | None) -> None:
        tell("hangup")

    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGHUP, on_hangup)
    tell("started")
    if values.exit is not None:
        sys.stderr.write(f'{{"level":"error","message":"{values.part} gives up"}}\n')
        return int(values.exit)
    if values.fd is not None:
        threading.Thread(target=answer, args=(values.fd,), daemon=True).start()
    if values.ready:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            message = f"READY=1\nX_TALLYGATE_PART={values.part}"
            notify.sendto(message.encode(), os.environ["NOTIFY_SOCKET"])
    stop.wait()
    tell("stopping")
    time.sleep(values.stop_s)
    tell("stopped")
    return 0


def answer(descriptor: int) -> None:
    """Answer each connection to the inherited socket with this process's id."""
    with socket.socket(fileno=os.dup(descriptor)) as listening:
        listening.setblocking(True)
        while True:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(str(os.getpid()).encode())


if __name__ == "__main__":
    sys.exit(main())
