"""The command line: `python -m tests.support.mock_anthropic --port 0 --log FILE`.

Prints one JSON line with its address, `{"host": "127.0.0.1", "port": 40001}`, once it listens, and
ends at SIGTERM or SIGINT. With `--end-with-stdin` it also ends when its standard input does, that
is with the process that started it, however that one came to its end.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import uvloop

from tests.support.mock_anthropic.connection import Connection
from tests.support.mock_anthropic.messages import Ids
from tests.support.mock_anthropic.records import Book
from tests.support.mock_anthropic.stores import Stores

__all__ = ["main"]

_BACKLOG = 2048


async def _serve(host: str, port: int, book: Book, *, end_with_stdin: bool) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    if end_with_stdin:
        stdin_number = sys.stdin.fileno()

        def read_stdin() -> None:
            if not os.read(stdin_number, 4096):
                loop.remove_reader(stdin_number)
                over.set()

        loop.add_reader(stdin_number, read_stdin)
    ids = Ids()
    book.stores = Stores(ids)
    connections: set[Connection] = set()
    server = await loop.create_server(
        lambda: Connection(book, ids, connections), host, port, backlog=_BACKLOG
    )
    address = server.sockets[0].getsockname()
    sys.stdout.write(json.dumps({"host": host, "port": address[1]}) + "\n")
    sys.stdout.flush()
    await over.wait()
    server.close()
    for connection in list(connections):
        connection.abort()
    book.close()


def main() -> None:
    """Read the options and serve until told to end."""
    parser = argparse.ArgumentParser(prog="mock_anthropic", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=0, help="the port; 0 takes a free one")
    parser.add_argument("--log", type=Path, help="a file that gets one JSON line a request")
    parser.add_argument("--end-with-stdin", action="store_true", help="end with standard input")
    options = parser.parse_args()
    book = Book(options.log)
    uvloop.run(_serve(options.host, options.port, book, end_with_stdin=options.end_with_stdin))


if __name__ == "__main__":
    main()
