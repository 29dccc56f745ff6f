"""docs/faults.md has the rows of the corpus of faults, and no others."""

import re
from pathlib import Path

import pytest

from services.proxy import connection, pool, warm
from tests.support.fault_scripts import SCRIPTS, Script

FAULTS = (Path(__file__).resolve().parents[2] / "docs" / "faults.md").read_text()
USAGE = {
    "whole": "as reported",
    "seen": "as reported so far, output estimated",
    "guessed": "estimated from the bytes",
    "none": "none",
}
ROWS = re.findall(
    r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", FAULTS, re.MULTILINE
)


@pytest.mark.parametrize("script", [pytest.param(script, id=script.name) for script in SCRIPTS])
def test_each_fault_has_its_row(script: Script) -> None:
    # Given a script, then its row says what the test of the corpus asserts.
    sees = script.sees.replace(" cut", ", cut")
    sees = sees.replace(" error event", ", ends with an `error` event")
    names = (script.booked,) if isinstance(script.booked, str) else script.booked
    booked = " or ".join(f"`{name}`" for name in names)
    assert [row[1:] for row in ROWS if row[0] == script.name] == [
        (sees, booked, USAGE[script.usage])
    ]


def test_no_row_is_without_its_script() -> None:
    # Given the rows, then each is one of the corpus.
    assert [row[0] for row in ROWS] == [script.name for script in SCRIPTS]


def test_limits_stand_as_the_code_has_them() -> None:
    # Given the limits, then the table names the figures of the code.
    kib = connection.HEADER_BYTES_MAX // 1024
    assert f"| {connection.HEADERS_MAX}, {kib} KiB |" in FAULTS
    high, read = connection.BUFFER_BYTES_HIGH // 1024, connection.READ_BYTES // 1024
    assert (
        f"| {high} KiB and a read of {read} KiB, at three places: {3 * (high + read)} KiB" in FAULTS
    )
    assert f"{pool.IDLE_CONNECTIONS_MAX} idle ones for each host" in FAULTS
    assert f"closes {pool.CLOSED_UNUSED_MAX} of them unused" in FAULTS
    pauses = f"from {warm.BACKOFF_S_MIN:g} s to {warm.BACKOFF_S_MAX:g} s"
    assert f"the pause doubles {pauses}" in FAULTS
