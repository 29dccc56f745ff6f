"""Ids as the gateway, Claude Code and the API make them, of a seed. Pure."""

import random
import uuid

__all__ = [
    "hex_digits",
    "key_id",
    "message_id",
    "request_id",
    "session_id",
    "upstream_request_id",
]

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def hex_digits(rng: random.Random, count: int) -> str:
    """Return so many hex digits."""
    return f"{rng.getrandbits(4 * count):0{count}x}"


def request_id(rng: random.Random, started_at_us: int) -> str:
    """Return a request's id, ordered by time as those of the proxy are."""
    return f"tg_{started_at_us:014x}{rng.getrandbits(72):018x}"


def session_id(rng: random.Random) -> str:
    """Return the id of a session of Claude Code."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def key_id(rng: random.Random) -> str:
    """Return the id of a virtual key."""
    return "key_" + hex_digits(rng, 24)


def message_id(rng: random.Random) -> str:
    """Return the id of an answer of the API."""
    return "msg_01" + "".join(rng.choices(_BASE62, k=22))


def upstream_request_id(rng: random.Random) -> str:
    """Return the API's own id of a request."""
    return "req_011" + "".join(rng.choices(_BASE62, k=21))
