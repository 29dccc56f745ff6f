"""The cells of the benchmark: what is sent, over how many connections, and what comes back."""

import msgspec

from bench.answers import Answer

__all__ = ["CELLS", "REQUESTS_MAX", "Cell", "chosen"]

REQUESTS_MAX = 20_000
"""No cell sends more in one round, however fast the target is."""
SMALL, LARGE = 1_000, 100_000
WHOLE = Answer()
BURST = Answer(events=500)
PACED = Answer(events=200, pace_ms=5)
HELD = Answer(events=25, pace_ms=200)
HELD_STREAMS = 1_000


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement.

    `stagger_s`: over so long the connections begin. `is_extra`: only where asked for by name.
    """

    name: str
    body_bytes: int
    connections: int
    answer: Answer
    stagger_s: float = 0.0
    is_extra: bool = False


def _cells() -> list[Cell]:
    cells = []
    for kind, answer in (("whole", WHOLE), ("burst", BURST)):
        for size, body_bytes in (("1k", SMALL), ("100k", LARGE)):
            for connections in (1, 16):
                name = f"{kind}-{size}-c{connections}"
                cells.append(
                    Cell(name=name, body_bytes=body_bytes, connections=connections, answer=answer)
                )
    for size, body_bytes in (("1k", SMALL), ("100k", LARGE)):
        name = f"paced-{size}-c32"
        cells.append(Cell(name=name, body_bytes=body_bytes, connections=32, answer=PACED))
    # Streams that began in the same moment would all have their events in the same moments, too.
    cells.append(
        Cell(
            name="held-1k-c1000",
            body_bytes=SMALL,
            connections=HELD_STREAMS,
            answer=HELD,
            stagger_s=1.0,
            is_extra=True,
        )
    )
    return cells


CELLS = tuple(_cells())
"""`burst`: 500 events as fast as they can be written; `paced`: 200 events, one every 5 ms; `held`:
1,000 streams at once with 5 events a second each."""


def chosen(names: list[str] | None) -> list[Cell]:
    """Return the cells of these names (None: all but the extra ones). Raises KeyError."""
    if names is None:
        return [cell for cell in CELLS if not cell.is_extra]
    known = {cell.name: cell for cell in CELLS}
    return [known[name] for name in names]
