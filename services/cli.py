"""The command line: which command is meant. Everything else is imported when it is needed."""

import argparse
import os
import sys
import textwrap
from collections.abc import Callable
from importlib import metadata

__all__ = ["main"]

EXIT_USAGE = 2
EXIT_FAULT = 1
EXIT_CONFIG = 78
EXIT_INTERRUPTED = 130

_CLIENT_COMMANDS = {
    "alerts": "Show who is told of what at a running gateway, or see whether alerts arrive.",
    "audit": "Show who changed what at a running gateway, when and from where.",
    "budgets": "Show what keys, users and teams may spend and have left; set and take it away.",
    "claude-code": "Print, or write into its settings, what Claude Code needs to use a gateway.",
    "keys": "Make, list, block and delete virtual keys of a running gateway.",
    "login": "Sign in to a gateway: its address and a key are kept for the other commands.",
    "logout": "Forget a gateway that was signed in to, and the key for it.",
    "logs": "List requests in a running gateway's ledger, and what each cost.",
    "models": "List a running gateway's models; add, change and delete those of its registry.",
    "prices": "List what models cost at a running gateway, set your own prices; check the book.",
    "reload": "Let a running gateway take its configuration file anew, without a restart.",
    "reprice": "Show what requests would cost by other prices, and have them cost that.",
    "spend": "Show what was spent at a running gateway, by whom and on what.",
    "sql": "Ask a running gateway's ledger in SQL.",
    "teams": "Make, list, change, block and delete teams of a running gateway.",
    "top": "Show live traffic of a running gateway in the terminal.",
    "users": "Make, list, change, block and delete users of a running gateway.",
}


def main() -> int:
    """Run the command that the process was started with; return its exit code."""
    return run(sys.argv[1:])


def run(arguments: list[str]) -> int:
    """Run a command line (without the program's name); return the exit code."""
    if instruction := os.environ.get("_TALLYGATE_COMPLETE"):
        from services.commands.completion import complete

        return complete(instruction)
    from services.commands.arguments import COMMANDS, nearest

    first = arguments[0] if arguments else "--help"
    if first in {"-h", "--help", "help"}:
        sys.stdout.write(_help(COMMANDS))
        return 0
    if first in {"-V", "--version", "version"}:
        sys.stdout.write(f"tallygate {metadata.version('tallygate')}\n")
        return 0
    if arguments[:2] == ["prices", "check"]:
        from services.commands.price_check import main as check_main

        return check_main(arguments[2:])
    if first in _CLIENT_COMMANDS:
        from services.client.cli import main as client_main

        return client_main(arguments)
    command, rest = (first, arguments[1:])
    if f"{first} {' '.join(rest[:1])}" in COMMANDS:
        command, rest = f"{first} {rest[0]}", rest[1:]
    if first.startswith("-"):
        command, rest = "serve", arguments
    if command not in COMMANDS:
        message = nearest("command", command, [*COMMANDS, *_CLIENT_COMMANDS])
        sys.stderr.write(f"tallygate: {message}\nTry `tallygate --help`.\n")
        return EXIT_USAGE
    return _run_service_command(command, rest)


def _run_service_command(command: str, arguments: list[str]) -> int:
    from schemas.errors import ConfigError, TallygateError
    from services.commands.arguments import read_arguments

    values = read_arguments(command, arguments)
    try:
        return _function(command)(values)
    except ConfigError as error:
        sys.stderr.write(f"tallygate: {error}\n")
        return EXIT_CONFIG
    except (TallygateError, OSError) as error:
        # An OSError names its file: a full disk, a folder that may not be written to.
        sys.stderr.write(f"tallygate: {error}\n")
        return EXIT_FAULT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _function(command: str) -> Callable[[argparse.Namespace], int]:
    from services.commands.arguments import BOOKS_COMMANDS

    if command == "serve":
        from services.commands.serve import serve

        return serve
    if command == "demo":
        from services.commands.demo import demo

        return demo
    if command == "completion":
        from services.commands.completion import run_completion

        return run_completion
    if command == "doctor":
        from services.commands.doctor import run_doctor

        return run_doctor
    if command in BOOKS_COMMANDS:
        return _books_function(command)
    from services.commands import one_service

    return {
        "proxy": one_service.run_proxy,
        "ledger": one_service.run_ledger,
        "admin": one_service.run_admin,
    }[command]


def _books_function(command: str) -> Callable[[argparse.Namespace], int]:
    if command == "ledger retry-dead-letters":
        from services.commands import letters

        return letters.run_retry_dead_letters
    if command == "snapshot":
        from services.commands import snapshot

        return snapshot.run_snapshot
    from services.commands import books

    return books.run_verify if command == "verify" else books.run_replay


def _help(commands: dict[str, str]) -> str:
    """Return the text of `tallygate --help`."""
    return (
        "tallygate: a gateway between Claude Code and the Anthropic API, with numbers you can\n"
        "prove.\n\n"
        "Usage: tallygate COMMAND [options]      (tallygate COMMAND --help tells them)\n"
        "       tallygate --config FILE          short for: tallygate serve --config FILE\n\n"
        f"Run a gateway, and look after its books:\n{_rows(commands)}\n\n"
        "Ask and manage a gateway that runs, here or elsewhere:\n"
        f"{_rows(_CLIENT_COMMANDS)}\n\n"
        "  --version, --help\n"
    )


def _rows(commands: dict[str, str]) -> str:
    return "\n".join(f"  {_column(name)}{_wrapped(text)}" for name, text in commands.items())


def _column(name: str) -> str:
    """Return a command's name as wide as its column; a longer one has a line of its own."""
    return f"{name:<8}" if len(name) < 8 else f"{name}\n{'':10}"  # noqa: PLR2004


def _wrapped(text: str) -> str:
    indent = " " * 10
    return textwrap.fill(text, 86, initial_indent=indent, subsequent_indent=indent)[10:]


if __name__ == "__main__":
    sys.exit(main())
