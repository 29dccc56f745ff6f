"""docs/admin-api.md names every command that asks a running gateway, and `--help` does too."""

import re
from pathlib import Path

import rich_click as click

from services import cli
from services.client.cli import EXIT_INTERRUPTED
from services.client.commands import client_commands
from services.client.gateway import EXIT_REFUSED, EXIT_UNAUTHENTICATED, EXIT_UNAVAILABLE

COMMAND = re.compile(r"^- `tallygate ([a-z-]+)(?: ([a-z|-]+))?`", re.MULTILINE)
TEXT = (Path(__file__).parents[2] / "docs" / "admin-api.md").read_text()
SECTION = TEXT.partition("\n## The command line\n")[2]


def test_every_client_command_is_described() -> None:
    # Given the commands and their parts, when the document is read, then it names just these.
    described = {
        (name, tuple(sorted(parts.split("|"))) if parts else ())
        for name, parts in COMMAND.findall(SECTION)
    }
    parts_of = {
        (each.name, tuple(sorted(each.commands)) if isinstance(each, click.Group) else ())
        for each in client_commands
    }
    # The price book is checked without a gateway.
    parts_of = {
        (name, (*parts, "check") if name == "prices" else parts) for name, parts in parts_of
    }
    assert described == {(name, tuple(sorted(parts))) for name, parts in parts_of}


def test_every_exit_code_is_described() -> None:
    # Given the codes that client commands end with, when the table is read, then it has just these.
    described = {int(code) for code in re.findall(r"^\| (\d+) \| ", SECTION, re.MULTILINE)}
    wrong_usage = click.UsageError("").exit_code
    assert described == {
        0, wrong_usage, EXIT_REFUSED, EXIT_UNAVAILABLE, EXIT_UNAUTHENTICATED, EXIT_INTERRUPTED,
    }  # fmt: skip


def test_help_of_the_program_lists_every_client_command() -> None:
    # Given the commands, when the program's list is compared, then it has each of them.
    assert sorted(cli._CLIENT_COMMANDS) == sorted(str(each.name) for each in client_commands)
