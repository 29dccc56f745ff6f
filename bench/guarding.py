"""What guardrails cost a request in a proxy: CPU time; `--smoke` for a glance.

`python -m bench.guarding` has requests pass their guardrails in one process, without any network.
A figure is the smallest of the rounds (the machine is shared). "New": the conversation was never
seen; "known": it was, and its last message of 1 KB is new, as in each turn of Claude Code. What the
rules themselves cost is in bench.guardrails.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

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
_TEXT = "".join(
    path.read_text() for path in sorted(Path(__file__).parents[1].glob("services/proxy/*.py"))
)


def _body(size: int, number: int) -> bytes:
    """Return a request whose last message is like no other's."""
    texts = [_TEXT[place : place + MESSAGE] for place in range(0, size - 1_000, MESSAGE)]
    texts.append(f"{number} " + _TEXT[:1_000])
    messages = [
        {"role": "user", "content": [{"type": "tool_result", "content": text}]} for text in texts
    ]
    body = {"model": "claude-sonnet", "max_tokens": 32_000, "messages": messages}
    return json.dumps(body, separators=(",", ":")).encode()


def _ignore(_: GuardrailHit) -> None:
    """Take a hit for told."""


def _measure(setup: Setup, size: int, rounds: int, *, is_known: bool) -> float:
    """Return µs of CPU for a request to choose and pass its guardrails."""
    worker = Guarding(_ignore)
    numbers = count()

    async def passing(body: bytes) -> float:
        began = time.process_time_ns()
        draft = Draft("tg_1", 1, "messages", setup, _KEY)
        draft.guardrails = setup.guards.chosen(_KEY, draft.owners)
        if draft.guardrails:
            await worker.check(draft, [], body)
        return (time.process_time_ns() - began) / 1000

    async def all_of_them() -> list[float]:
        nonlocal worker
        await passing(_body(size, next(numbers)))
        found = []
        for _ in range(rounds):
            if not is_known:
                worker = Guarding(_ignore)
            found.append(await passing(_body(size, next(numbers))))
        return found

    return min(asyncio.run(all_of_them()))


def _row(cells: Callable[[int, bool], float]) -> str:
    return " | ".join(
        f"{cells(size, is_known):.0f}" for size in SIZES.values() for is_known in (False, True)
    )


def main() -> None:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench.guarding", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few rounds: only see that it works")
    rounds = SMOKE_ROUNDS if parser.parse_args().smoke else ROUNDS
    # A thread's start would be in the figures of long texts, and no work of anybody's.
    guarding.INLINE_BYTES_MAX = 2**40
    heads = " | ".join(f"{name} new | known" for name in SIZES)
    print(f"| CPU a request, µs | {heads} |")
    print("|---" * (1 + 2 * len(SIZES)) + "|")
    for kind, guardrails in _KINDS.items():
        warm_scanners(guardrails)
        setup = make_setup(GatewayConfig(path="", guardrails=guardrails), "sk-x")
        row = _row(lambda size, known, s=setup: _measure(s, size, rounds, is_known=known))  # type: ignore[misc]
        print(f"| {kind} | {row} |")


if __name__ == "__main__":
    main()
