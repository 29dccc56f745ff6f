"""The shell of `tallygate sql`: statements that end with a semicolon, and commands with a dot."""

import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from services.client.answers import ask, print_answer
from services.client.gateway import EXIT_REFUSED, ClientError, Gateway
from services.client.output import cell_text, note
from services.client.shell_line import LineReader
from services.client.sql_text import pointed, split

__all__ = ["MODES", "STATEMENT_BYTES_MAX", "SqlShell"]

MODES = ("table", "json", "csv")
STATEMENT_BYTES_MAX = 1024 * 1024
"""A longer text without its semicolon is dropped, with a word: the gateway would refuse it."""

_PROMPT = "tallygate> "
_PROMPT_MORE = "      ...> "
_LEAVE = frozenset((".exit", ".quit", "exit", "quit"))
_COLUMNS = """
SELECT table_name, column_name FROM duckdb_columns()
WHERE database_name = current_database() AND schema_name = 'main' AND NOT internal
ORDER BY table_name, column_index
"""
_TABLES = """
SELECT table_name, table_type FROM information_schema.tables
WHERE table_catalog = current_database() AND table_schema = 'main' ORDER BY table_name
"""
_SCHEMA = """
SELECT table_name, column_name, data_type, comment FROM duckdb_columns()
WHERE database_name = current_database() AND schema_name = 'main' AND NOT internal
  AND ($1 IS NULL OR lower(table_name) = lower($1))
ORDER BY table_name, column_index
"""
_HELP = """\
A statement ends with a semicolon and may take several lines. Ctrl-C drops what is typed, or
stops waiting for an answer; Tab completes names; Ctrl-D leaves.

  .tables         the tables and views
  .schema [NAME]  the columns of a table, or of all, with what they mean
  .mode [MODE]    how answers are printed: table, json or csv
  .help           this
  .exit           leave (.quit too)
"""


class SqlShell:
    """One session at a terminal. `mode` is one of MODES; `rows_max` cuts each answer."""

    def __init__(self, gateway: Gateway, *, mode: str, raw: bool, rows_max: int) -> None:
        self._gateway = gateway
        self._mode = mode
        self._raw = raw
        self._rows_max = rows_max
        self._typed = ""
        self._names: dict[str, list[str]] = {}
        self._commands: dict[str, Callable[[str], None]] = {
            ".tables": lambda _: self._answer(_TABLES),
            ".schema": self._schema,
            ".mode": self._set_mode,
            ".help": lambda _: _write(_HELP),
        }

    def run(self) -> None:
        """Read and answer until the end. Raises ClientError where no gateway answers at first."""
        self._names = self._read_names()
        commands = [*self._commands, ".exit", ".quit"]
        reader = LineReader(self._names, commands, MODES)
        _write(
            f"The ledger of {cell_text(self._gateway.url)}. .help tells how to ask, .exit ends.\n"
        )
        while True:
            try:
                if not self._step(reader):
                    return
            except KeyboardInterrupt:
                # Wherever it comes: what is typed is dropped, and the session goes on.
                self._typed = ""
                _write("\n")

    def _step(self, reader: LineReader) -> bool:
        """Read one line and do what it asks. False: the session is over."""
        try:
            line = reader.read(_PROMPT_MORE if self._typed else _PROMPT)
        except EOFError:
            _write("\n")
            return False
        if not self._typed:
            text = line.strip().rstrip(";").rstrip()
            if text.lower() in _LEAVE:
                return False
            if text.startswith("."):
                reader.remember(line.strip())
                word, _, rest = text.partition(" ")
                self._command(word, rest.strip())
                return True
        typed, self._typed = self._typed + line + "\n", ""
        self._typed = self._take(typed, reader)
        return True

    def _take(self, typed: str, reader: LineReader) -> str:
        """Run the statements that are whole; return what waits for its semicolon."""
        statements, rest = split(typed)
        for statement in statements:
            text = statement.strip()
            if not text:
                continue
            reader.remember(f"{text};")
            if not self._guarded(text, lambda text=text: self._answer(text)):  # type: ignore[misc]
                return ""
        if not rest.strip():
            return ""
        if len(rest.encode(errors="replace")) > STATEMENT_BYTES_MAX:
            note(f"tallygate: no semicolon in {STATEMENT_BYTES_MAX} bytes: the text is dropped")
            return ""
        return rest

    def _guarded(self, text: str, run: Callable[[], None]) -> bool:
        """Run something; tell of its failure. False: what was to follow is dropped."""
        try:
            run()
        except ClientError as error:
            lines = pointed(text, str(error)).split("\n")
            sys.stderr.write("\n".join(cell_text(line) for line in lines) + "\n")
            return False
        except KeyboardInterrupt:
            sys.stderr.write("\ncancelled\n")
            return False
        return True

    def _answer(self, text: str, parameters: tuple[Any, ...] = ()) -> None:
        body = {"query": text, "rows_max": self._rows_max, "parameters": parameters}
        answer = ask(self._gateway, body)
        print_answer(answer, self._mode, raw=self._raw)
        if self._mode == "table":
            count = len(answer.rows)
            _write(f"{count} row{'' if count == 1 else 's'} in {answer.duration_ms:.0f} ms\n")

    def _command(self, word: str, rest: str) -> None:
        command = self._commands.get(word)
        if command is None:
            near = get_close_matches(word, [*self._commands, ".exit"], n=1)
            hint = f"did you mean {near[0]}?" if near else ".help lists the commands"
            note(f"{word} is no command: {hint}")
            return
        self._guarded("", lambda: command(rest))

    def _schema(self, name: str) -> None:
        name = name.strip('"')
        if name and self._names and name.lower() not in map(str.lower, self._names):
            near = get_close_matches(name.lower(), self._names, n=1)
            hint = f"did you mean {near[0]}?" if near else ".tables lists them"
            raise ClientError(f'there is no table "{name}": {hint}')
        self._answer(_SCHEMA, (name or None,))

    def _set_mode(self, mode: str) -> None:
        if mode and mode not in MODES:
            raise ClientError(f"{mode} is no mode: {', '.join(MODES)} are")
        self._mode = mode or self._mode
        _write(f"mode: {self._mode}\n")

    def _read_names(self) -> dict[str, list[str]]:
        """Return the columns of each table; none where this key may not see them."""
        names: dict[str, list[str]] = {}
        try:
            rows = ask(self._gateway, {"query": _COLUMNS}).rows
        except ClientError as error:
            if error.exit_code != EXIT_REFUSED:
                raise
            return names
        for table, column in rows:
            names.setdefault(table, []).append(column)
        return names


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
