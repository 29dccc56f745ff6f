"""The arguments of the commands that run services.

They are read with argparse, which costs a starting process 3 ms; the nicer rich-click, which the
client commands use, costs 150 ms.
"""

import argparse
import difflib
import os
from pathlib import Path
from typing import NoReturn

from schemas.errors import ConfigError

__all__ = [
    "BOOKS_COMMANDS",
    "COMMANDS",
    "SHELLS",
    "config_path",
    "nearest",
    "parser_of",
    "read_arguments",
]

EXIT_USAGE = 2
PORT_MAX = 65_535
SEQUENCE_MAX = 2**62
WORKERS_MAX = 64
PORT_DEFAULT = 4000
ADMIN_PORT_DEFAULT = 4001
DEMO_REQUESTS_MIN = 100
DEMO_REQUESTS_MAX = 2_000_000
DEMO_REQUESTS_DEFAULT = 20_000
DEMO_PER_MINUTE_MAX = 6000

COMMANDS = {
    "serve": "Run the whole gateway: an embedded nats-server, the proxy, the ledger and the admin "
    "service, each in a process of its own. Ctrl-C ends it in order: running requests are "
    "finished and the books are brought up to date first.",
    "proxy": "Run one worker of the proxy against an external NATS server.",
    "ledger": "Run the ledger against an external NATS server: its writer, which owns the books "
    "and decides on budgets, its reader, which answers queries, or quack, which serves them over "
    "DuckDB's own protocol.",
    "verify": "Prove the books: every event counted once, every request ended once, every cost "
    "computed again, writer and reader with the same digest. Also while the gateway runs. "
    "Exit code 0: proved, 1: a fault was found (each is told, with what to do), 78: they cannot "
    "be read.",
    "ledger retry-dead-letters": "Tell which events that could not be read this version can read, "
    "and why it cannot read the others. Where no ledger runs they are counted at once; one that "
    "runs counts them when it is restarted.",
    "replay": "Build the books anew from the stream, in a file of their own beside those of a "
    "running gateway, and print their digest.",
    "snapshot": "Copy the books into a file of their own, as of one moment and with one digest, "
    "while the gateway runs or when it does not. Any DuckDB client opens the file.",
    "doctor": "Look at a whole installation from outside, also where parts of it are down: each "
    "line says what is well, what wants attention, and what to do. Exit code 0: all is well, 1: "
    "there are warnings, 2: there are faults. With --client: how Claude Code is set up here.",
    "demo": "Look at all of it without an account: the whole gateway over a stand-in for the API, "
    "with three weeks of made-up history and requests that go on. Ctrl-C ends it, and all is gone "
    "again, unless it has a --folder.",
    "completion": "Print a script with which a shell completes commands, options and their values "
    'at Tab: eval "$(tallygate completion bash)".',
    "admin": "Run the admin service (keys, spend, SQL, OpenAPI) against an external NATS server.",
}

SHELLS = ("bash", "zsh", "fish")
"""Those that `tallygate completion` has a script for."""

BOOKS_COMMANDS = frozenset({"verify", "replay", "snapshot", "ledger retry-dead-letters"})
"""They read the books or the stream, and need no configuration."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\nTry `{self.prog} --help`.\n")


def read_arguments(command: str, arguments: list[str]) -> argparse.Namespace:
    """Return the values of a command's options. Wrong ones end the process with code 2."""
    parser = parser_of(command)
    values, unknown = parser.parse_known_args(arguments)
    if unknown:
        options = [name for action in parser._actions for name in action.option_strings]
        parser.error(nearest("option", unknown[0].split("=")[0], options))
    return values


def nearest(kind: str, wrong: str, known: list[str]) -> str:
    """Return a message that names a wrong word and the known one that is most like it."""
    close = difflib.get_close_matches(wrong, known, n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    return f"there is no {kind} {wrong!r}.{meant}"


def config_path(given: Path | None) -> Path:
    """Return the configuration's path. Raises ConfigError where none is given or found."""
    if given is not None:
        return given
    default = Path("config.yaml")
    if default.is_file():
        return default
    raise ConfigError(
        "there is no config.yaml here: name a configuration with --config FILE "
        "(config.example.yaml is one to start from)"
    )


def parser_of(command: str) -> _Parser:
    """Return what reads a command's options."""
    parser = _Parser(prog=f"tallygate {command}", description=COMMANDS[command], allow_abbrev=False)
    if command == "completion":
        parser.add_argument("shell", choices=SHELLS, help="which shell")
        return parser
    if command == "demo":
        _add_demo_options(parser)
        return parser
    if command == "doctor":
        _add_doctor_options(parser)
        return parser
    if command in BOOKS_COMMANDS:
        _add_books_options(parser, command)
        return parser
    parser.add_argument(
        "--config",
        type=_path,
        metavar="FILE",
        default=_path_from_environment("TALLYGATE_CONFIG"),
        help="the configuration, in LiteLLM's form (default: $TALLYGATE_CONFIG, or ./config.yaml)",
    )
    _add_data(parser)
    parser.add_argument(
        "--metrics",
        metavar="HOST:PORT",
        default=os.environ.get("TALLYGATE_METRICS") or None,
        help="serve GET /metrics there, for Prometheus, without asking for a key: for all "
        "processes of the data folder (default: $TALLYGATE_METRICS, or nowhere)",
    )
    if command == "serve":
        _add_address(parser, PORT_DEFAULT)
        parser.add_argument(
            "--workers",
            type=_number("number of workers", 1, WORKERS_MAX),
            metavar="N",
            default=1,
            help="how many processes of the proxy (default: 1)",
        )
        return parser
    parser.add_argument(
        "--nats-url",
        metavar="URL",
        default=os.environ.get("TALLYGATE_NATS_URL") or None,
        help="the NATS server (default: $TALLYGATE_NATS_URL, which unlike this option is not seen "
        "in the list of processes, or `tallygate: nats_url` of the configuration)",
    )
    # The supervisor keeps the configuration that it accepted there, for children that it restarts.
    parser.add_argument("--accepted", type=Path, help=argparse.SUPPRESS)
    if command == "ledger":
        parser.add_argument(
            "--role",
            choices=("writer", "reader", "quack"),
            required=True,
            help="which part of the ledger",
        )
        return parser
    _add_address(parser, PORT_DEFAULT if command == "proxy" else ADMIN_PORT_DEFAULT)
    # The supervisor gives its children a socket that it has bound already.
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    if command == "proxy":
        parser.add_argument(
            "--worker",
            type=_number("worker", 0, WORKERS_MAX - 1),
            metavar="N",
            default=0,
            help="the number of this worker, which names its folder (default: 0)",
        )
        parser.add_argument(
            "--admin-url",
            metavar="URL",
            default=os.environ.get("TALLYGATE_ADMIN_URL") or None,
            help="where management paths are passed on to (default: $TALLYGATE_ADMIN_URL, or "
            "`tallygate: admin_url`)",
        )
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=_path,
        metavar="DIR",
        default=_path_from_environment("TALLYGATE_DATA") or Path("data"),
        help="the data folder (default: $TALLYGATE_DATA, or ./data)",
    )


def _add_books_options(parser: argparse.ArgumentParser, command: str) -> None:
    """Add what the commands take that read the books or the stream."""
    _add_data(parser)
    user = "ledger-reader" if command == "replay" else "admin"
    parser.add_argument(
        "--nats-url",
        metavar="URL",
        default=os.environ.get("TALLYGATE_NATS_URL") or None,
        help=f"the NATS server, with the user {user} where it has users (default: "
        "$TALLYGATE_NATS_URL, or the embedded one of the data folder, which need not run)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    if command == "snapshot":
        parser.add_argument("file", type=_path, metavar="FILE", help="the file to make")
        parser.add_argument(
            "--force", action="store_true", help="replace FILE where it exists already"
        )
    if command == "replay":
        parser.add_argument(
            "--into", type=_path, metavar="FILE", required=True, help="the file to make"
        )
        parser.add_argument(
            "--until",
            type=_number("message of the stream", 1, SEQUENCE_MAX),
            metavar="SEQUENCE",
            help="the last message to take in (default: the last one that there is now)",
        )


def _add_demo_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder",
        type=_path,
        metavar="DIR",
        help="keep the demo there, and go on with it at the next start (default: a new one, which "
        "is deleted in the end)",
    )
    parser.add_argument(
        "--port",
        type=_number("port", 0, PORT_MAX),
        metavar="P",
        default=PORT_DEFAULT,
        help=f"the port on 127.0.0.1; 0 is any free one (default: {PORT_DEFAULT})",
    )
    parser.add_argument(
        "--requests",
        type=_number("number of requests", DEMO_REQUESTS_MIN, DEMO_REQUESTS_MAX),
        metavar="N",
        default=DEMO_REQUESTS_DEFAULT,
        help=f"how large the history is (default: {DEMO_REQUESTS_DEFAULT})",
    )
    parser.add_argument(
        "--seed",
        type=_number("seed", 0, SEQUENCE_MAX),
        metavar="N",
        default=1,
        help="another seed is another history; the same one makes the same (default: 1)",
    )
    parser.add_argument(
        "--per-minute",
        type=_number("number of requests", 0, DEMO_PER_MINUTE_MAX),
        metavar="N",
        default=20,
        help="how many requests go on coming in each minute; 0: none (default: 20)",
    )


def _add_doctor_options(parser: argparse.ArgumentParser) -> None:
    _add_data(parser)
    parser.add_argument(
        "--config",
        type=_path,
        metavar="FILE",
        default=_path_from_environment("TALLYGATE_CONFIG"),
        help="the configuration (default: $TALLYGATE_CONFIG, ./config.yaml, or the content that "
        "the data folder holds)",
    )
    parser.add_argument(
        "--nats-url",
        metavar="URL",
        default=os.environ.get("TALLYGATE_NATS_URL") or None,
        help="the NATS server, with the user admin where it has users (default: "
        "$TALLYGATE_NATS_URL, the configuration's, or the embedded one of the data folder)",
    )
    parser.add_argument(
        "--url",
        metavar="URL",
        default=os.environ.get("TALLYGATE_URL") or f"http://127.0.0.1:{PORT_DEFAULT}",
        help="where clients reach the gateway (default: $TALLYGATE_URL, or "
        f"http://127.0.0.1:{PORT_DEFAULT})",
    )
    parser.add_argument(
        "--client", action="store_true", help="look at Claude Code's settings on this machine"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def _add_address(parser: argparse.ArgumentParser, port: int) -> None:
    parser.add_argument(
        "--host",
        metavar="H",
        default="127.0.0.1",
        help="the address to listen on (default: 127.0.0.1, this machine alone)",
    )
    parser.add_argument(
        "--port",
        type=_number("port", 0, PORT_MAX),
        metavar="P",
        default=port,
        help=f"the port to listen on; 0 is any free one (default: {port})",
    )


class _number:  # noqa: N801 - argparse takes a callable
    """Reads a whole number within bounds."""

    def __init__(self, name: str, first: int, last: int) -> None:
        self._name, self._first, self._last = name, first, last

    def __call__(self, text: str) -> int:
        if text.isdecimal() and self._first <= int(text) <= self._last:
            return int(text)
        raise argparse.ArgumentTypeError(
            f"{text!r} is no {self._name}: give a number from {self._first} to {self._last}"
        )


def _path(text: str) -> Path:
    """Read a path. An empty one, most likely a variable that is not set, would be this folder."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty: is a variable not set?")
    return Path(text)


def _path_from_environment(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value) if value else None
