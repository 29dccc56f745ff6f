"""docs/proof.md is a subject of tests: every option and every fault has its place there."""

import re
from pathlib import Path

import pytest

from services.commands.arguments import parser_of

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "proof.md").read_text()
PARTS = {
    name: DOCUMENT.split(f"\n## tallygate {name}\n")[1].split("\n## ")[0]
    for name in ("verify", "replay", "snapshot", "ledger retry-dead-letters")
}


@pytest.mark.parametrize("command", PARTS)
def test_every_option_of_a_command_is_described(command: str) -> None:
    # Given the options that a command takes, then its part of the document has them all.
    takes = {
        option
        for action in parser_of(command)._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    }
    rows = "\n".join(line for line in PARTS[command].splitlines() if line.startswith("| `--"))
    assert set(re.findall(r"--[a-z-]+", rows)) == takes


def test_every_fault_is_described() -> None:
    # Given the faults that the code names, then each has a row in the table, and no other has.
    code = "".join(
        (ROOT / "services" / "ledger" / name).read_text()
        for name in ("proof.py", "verification.py", "archive_proof.py")
    )
    named = set(re.findall(r'fault="([a-z ]+)"', code))
    table = PARTS["verify"].split("### What is proved")[1].split("###")[0]
    assert set(re.findall(r"^\| `([a-z ]+)` \|", table, re.MULTILINE)) == named
