"""What guardrails cost a request in a proxy: CPU time; `--smoke` for a glance.

`python -m bench.guarding` has requests pass their guardrails in one process, without any network.
A figure is the smallest of the rounds (the machine is shared). "New": the conversation was never
seen; "known": it was, and its last message of 1 KB is new, as in each turn of Claude Code. Then the
goal: 100 KB of new text, many different ones, with all rules about secrets and personal data. What
the rules themselves cost is in bench.guardrails.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import count
from random import Random
from string import ascii_letters, digits

from bench.guardrails import SEED, clean_texts
from schemas.config import GatewayConfig
from schemas.events import GuardrailHit
from schemas.guardrails import Guardrail, RequestRules
from schemas.registry import KeyRecord
from services.proxy import guarding
from services.proxy.draft import Draft
from services.proxy.guarding import Guarding
from services.proxy.setup import Setup, make_setup
from services.runtime.guardrail_scanners import warm_scanners

ROUNDS, SMOKE_ROUNDS = 200, 3
BEST_OF = 5
GOAL_US = 1_000
SIZES = {"1 KB": 1_000, "100 KB": 100_000, "200 KB": 200_000}
MESSAGE = 4_000
"""So many characters has each message, the last one 1,000."""

_KEY = KeyRecord(key_id="k", key_hash="h", key_name="sk-...abcd")
_KINDS: dict[str, tuple[Guardrail, ...]] = {
    "none": (),
    "request_rules": (
        Guardrail(
            name="rules",
            kind="request_rules",
            default_on=True,
            rules=RequestRules(max_tokens_max=64_000, tools_denied=("WebFetch",)),
        ),
    ),
    "secrets and personal data": tuple(
        Guardrail(name=kind, kind=kind, action="mask", default_on=True)
        for kind in ("secrets", "personal_data")
    ),
}
_TEXTS = list(clean_texts(60, Random(SEED)))


def _body(size: int, number: int) -> bytes:
    """Return a request whose last message is like no other's, as Claude Code writes it."""
    text = _TEXTS[0] + _TEXTS[1]
    return _written([*_pieces(text[: size - 1_000]), f"{number} {text[-1_000:]}"])


def _pieces(text: str) -> list[str]:
    return [text[place : place + MESSAGE] for place in range(0, len(text), MESSAGE)]


def _written(texts: Sequence[str], *, is_ascii: bool = False) -> bytes:
    messages = [
        {"role": "user", "content": [{"type": "tool_result", "content": text}]} for text in texts
    ]
    body = {"model": "claude-sonnet", "max_tokens": 32_000, "messages": messages}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=is_ascii).encode()


_WAYS: dict[str, Callable[[str], bytes]] = {
    "in 25 messages": lambda text: _written(_pieces(text)),
    "in one message": lambda text: _written([text]),
    "in 25, other letters as escapes": lambda text: _written(_pieces(text), is_ascii=True),
    "in 25, one token in it": lambda text: _written(_pieces(text.replace("\n", f" {_TOKEN}\n", 1))),
}
_TOKEN = "ghp_" + "".join(Random(SEED).choices(ascii_letters + digits, k=36))


def _ignore(_: GuardrailHit) -> None:
    """Take a hit for told."""


async def _passing(worker: Guarding, setup: Setup, body: bytes) -> float:
    """Return µs of CPU for a request to choose and pass its guardrails."""
    began = time.process_time_ns()
    draft = Draft("tg_1", 1, "messages", setup, _KEY)
    draft.guardrails = setup.guards.chosen(_KEY, draft.owners)
    if draft.guardrails:
        await worker.check(draft, [], body)
    return (time.process_time_ns() - began) / 1000


def _measure(setup: Setup, size: int, rounds: int, *, is_known: bool) -> float:
    """Return the least µs of CPU of all rounds."""
    numbers = count()

    async def all_of_them() -> list[float]:
        worker = Guarding(_ignore)
        await _passing(worker, setup, _body(size, next(numbers)))
        found = []
        for _ in range(rounds):
            if not is_known:
                worker = Guarding(_ignore)
            found.append(await _passing(worker, setup, _body(size, next(numbers))))
        return found

    return min(asyncio.run(all_of_them()))


def _show_goal(setup: Setup, texts: Sequence[str]) -> None:
    """Print what 100 KB that were never seen cost, each text at its best of some rounds."""
    print(f"\n100 KB of new text, {len(texts)} texts, CPU µs (goal: {GOAL_US})")
    for way, written in _WAYS.items():
        bodies = [written(text) for text in texts]
        times = sorted(asyncio.run(_best(setup, body)) for body in bodies)
        median, last = statistics.median(times), times[int(len(times) * 0.99)]
        print(f"  {way:32} median {median:.0f}, 99 % {last:.0f}")


async def _best(setup: Setup, body: bytes) -> float:
    return min([await _passing(Guarding(_ignore), setup, body) for _ in range(BEST_OF)])


def _row(cells: Callable[[int, bool], float]) -> str:
    return " | ".join(
        f"{cells(size, is_known):.0f}" for size in SIZES.values() for is_known in (False, True)
    )


def main() -> None:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench.guarding", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few rounds: only see that it works")
    is_smoke = parser.parse_args().smoke
    rounds = SMOKE_ROUNDS if is_smoke else ROUNDS
    # A thread's start would be in the figures of long texts, and no work of anybody's.
    guarding.INLINE_BYTES_MAX = guarding.INLINE_SEARCH_BYTES_MAX = 2**40
    heads = " | ".join(f"{name} new | known" for name in SIZES)
    print(f"| CPU a request, µs | {heads} |")
    print("|---" * (1 + 2 * len(SIZES)) + "|")
    for kind, guardrails in _KINDS.items():
        warm_scanners(guardrails)
        setup = make_setup(GatewayConfig(path="", guardrails=guardrails), "sk-x")
        row = _row(lambda size, known, s=setup: _measure(s, size, rounds, is_known=known))  # type: ignore[misc]
        print(f"| {kind} | {row} |")
    # The last kind is the one with all rules.
    _show_goal(setup, _TEXTS[: SMOKE_ROUNDS if is_smoke else len(_TEXTS)])


if __name__ == "__main__":
    main()
