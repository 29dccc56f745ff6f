"""Ports for the servers of tests, which others leave alone until the server listens.

A port that the system chooses (bind to 0) can be given to somebody else as soon as it is closed
again: to a connection that goes out, to a server of a test that runs at the same time, or while a
killed server is down. Those below come from a range that neither outgoing connections nor the
embedded nats-server take, each once in a process before any comes again.
"""

import itertools
import random
import socket

__all__ = ["HOST", "PORT_FIRST", "PORT_LAST", "free_port"]

HOST = "127.0.0.1"
PORT_FIRST = 10_000
PORT_LAST = 19_999
"""The range; the gateway's embedded nats-server takes those above, the system those from 32,768."""

# Where each process of the tests begins: chance, so that two of them hardly ever ask for the same.
_numbers = itertools.count(random.SystemRandom().randrange(PORT_LAST - PORT_FIRST + 1))


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens and that nobody has used of late.

    Raises:
        RuntimeError: all ports of the range are taken.
    """
    count = PORT_LAST - PORT_FIRST + 1
    for number in itertools.islice(_numbers, count):
        port = PORT_FIRST + number % count
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
    message = f"no port from {PORT_FIRST} to {PORT_LAST} is free on {HOST}"
    raise RuntimeError(message)
