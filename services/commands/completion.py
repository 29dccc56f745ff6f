"""Completion in shells: the script that a shell reads once, and its questions at each Tab.

click knows how shells ask and what its own commands take; the commands that run services, which
are read with argparse, are described to it here.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from typing import Any

import click
from click.shell_completion import ShellComplete, get_completion_class

from services.client.commands import client_commands
from services.commands.arguments import COMMANDS, SHELLS, parser_of

__all__ = ["COMPLETE_VARIABLE", "complete", "completer", "run_completion"]

COMPLETE_VARIABLE = "_TALLYGATE_COMPLETE"
"""In it the shell's function says that it asks, and how: `bash_complete`, say."""

PROGRAM = "tallygate"
_EXIT_USAGE = 2
_PATHS = frozenset(("FILE", "DIR"))


def run_completion(values: argparse.Namespace) -> int:
    """Print the script for the shell that is named."""
    sys.stdout.write(completer(values.shell).source().lstrip("\n"))
    return 0


def complete(instruction: str) -> int:
    """Answer the question that a shell asks in its environment; return the exit code."""
    shell = instruction.removesuffix("_complete")
    if shell not in SHELLS or not {"COMP_WORDS", "COMP_CWORD"} <= os.environ.keys():
        return _EXIT_USAGE
    sys.stdout.write(completer(shell).complete() + "\n")
    return 0


def completer(shell: str) -> ShellComplete:
    """Return what completes the whole program's command lines in a shell (one of SHELLS)."""
    kind = get_completion_class(shell)
    assert kind is not None
    return kind(_program(), {}, PROGRAM, COMPLETE_VARIABLE)


def _program() -> click.Group:
    """Return the whole program as click knows it; none of it is run."""
    program = click.Group(PROGRAM, commands={str(each.name): each for each in client_commands})
    for name in COMMANDS:
        first, _, second = name.partition(" ")
        if not second:
            program.add_command(_command(first, name))
    for name in (*COMMANDS, "prices check"):
        first, _, second = name.partition(" ")
        group = program.commands[first]
        if second and isinstance(group, click.Group):
            # A group of its own: that of the client commands is run by others.
            parts = {**group.commands, second: _command(second, name)}
            both = click.Group(first, commands=parts, params=group.params, help=group.help)
            program.add_command(both)
    return program


def _command(name: str, of_program: str) -> click.Command:
    """Return a service's command; one that others follow is a group."""
    is_group = any(other.startswith(f"{of_program} ") for other in COMMANDS)
    kind = click.Group if is_group else click.Command
    text = COMMANDS.get(of_program)
    params = list(_params(of_program)) if text is not None else []
    return kind(name, params=params, help=text)


def _params(command: str) -> Iterator[click.Parameter]:
    for action in parser_of(command)._actions:
        if action.help == argparse.SUPPRESS or "--help" in action.option_strings:
            continue
        kind: click.ParamType[Any] = click.STRING
        if action.choices is not None:
            kind = click.Choice([str(each) for each in action.choices])
        elif action.metavar in _PATHS:
            kind = click.Path()
        if not action.option_strings:
            yield click.Argument([action.dest], type=kind)
        elif action.nargs == 0:
            yield click.Option(action.option_strings, is_flag=True, help=action.help)
        else:
            yield click.Option(action.option_strings, type=kind, help=action.help)
