"""Lines typed at a terminal: edited, completed and remembered by readline, where Python has it."""

import contextlib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from services.client.output import note

__all__ = ["HISTORY_ENTRIES_MAX", "HISTORY_VARIABLE", "Completer", "LineReader", "history_path"]

HISTORY_ENTRIES_MAX = 1_000
HISTORY_VARIABLE = "TALLYGATE_SQL_HISTORY"
"""Names another file for the history; empty: none is kept."""
_FILE_MODE = 0o600
_KEYWORDS = """
    SELECT FROM WHERE GROUP BY ORDER HAVING QUALIFY LIMIT OFFSET WITH RECURSIVE AS JOIN LEFT RIGHT
    FULL INNER CROSS ASOF LATERAL ON USING UNION INTERSECT EXCEPT ALL DISTINCT AND OR NOT IN IS NULL
    LIKE ILIKE BETWEEN CASE WHEN THEN ELSE END CAST OVER PARTITION WINDOW FILTER EXISTS ASC DESC
    TRUE FALSE INTERVAL TIMESTAMP DATE DESCRIBE SUMMARIZE SHOW TABLES VALUES PIVOT UNPIVOT count sum
    avg min max median quantile_cont date_trunc coalesce round arg_max arg_min count_if string_agg
"""


def history_path(environment: Mapping[str, str]) -> Path | None:
    """Return the file of the history: XDG's state folder, or what HISTORY_VARIABLE names."""
    named = environment.get(HISTORY_VARIABLE)
    if named is not None:
        return Path(named).expanduser() if named else None
    state = environment.get("XDG_STATE_HOME", "")
    if not Path(state).is_absolute():
        home = environment.get("HOME", "")
        if not Path(home).is_absolute():
            return None
        state = f"{home}/.local/state"
    return Path(state) / "tallygate" / "sql_history"


class Completer:
    """Completes the word under the cursor: commands, tables, columns, words of SQL."""

    def __init__(
        self, names: Mapping[str, Sequence[str]], commands: Sequence[str], modes: Sequence[str]
    ) -> None:
        self._names = names
        self._commands = commands
        self._modes = modes
        self._columns = sorted({column for columns in names.values() for column in columns})

    def candidates(self, line: str, word: str) -> list[str]:
        """Return what `word`, of which `line` is the text up to its end, may become."""
        first, blank, _ = line.lstrip().partition(" ")
        if first.startswith("."):
            if not blank:
                return _beginning(word, self._commands)
            return _beginning(word, {".mode": self._modes, ".schema": self._names}.get(first, ()))
        table, dot, part = word.rpartition(".")
        if dot:
            columns = self._names.get(table.lower(), self._columns)
            return [f"{table}.{column}" for column in _beginning(part, columns)]
        keywords = _KEYWORDS.split()
        if not word.isupper():
            keywords = [keyword.lower() for keyword in keywords]
        found = _beginning(word, [*self._names, *self._columns, *keywords])
        return list(dict.fromkeys(found))


def _beginning(word: str, names: Collection[str]) -> list[str]:
    return [name for name in names if name.lower().startswith(word.lower())]


class LineReader:
    """Reads lines from the terminal. One for a process: readline has one state."""

    def __init__(
        self, names: Mapping[str, Sequence[str]], commands: Sequence[str], modes: Sequence[str]
    ) -> None:
        self._readline = _readline()
        self._history = history_path(os.environ)
        self._found: list[str] = []
        self._completer = Completer(names, commands, modes)
        if self._readline is not None:
            self._set_up(self._readline)

    def read(self, prompt: str) -> str:
        """Return one line, without its end. Raises EOFError, KeyboardInterrupt."""
        return input(prompt)

    def remember(self, text: str) -> None:
        """Put a statement or command into the history, as one line where that means the same."""
        if self._readline is None:
            return
        lines = text.split("\n") if "--" in text else [re.sub(r"\s*\n\s*", " ", text)]
        for line in lines:
            self._readline.add_history(line)
        with self._file() as path:
            if path is not None:
                self._readline.append_history_file(len(lines), path)

    def _set_up(self, readline: ModuleType) -> None:
        readline.set_auto_history(False)
        readline.set_history_length(HISTORY_ENTRIES_MAX)
        readline.set_completer_delims(" \t\n\"'`@$><=;|&{}()[],+-*/%:!?^~")
        readline.set_completer(self._complete)
        is_libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
        with self._file() as path:
            if path is not None:
                readline.read_history_file(path)

    @contextlib.contextmanager
    def _file(self) -> Iterator[Path | None]:
        """Give the history's file, for its owner alone; after a fault none is kept."""
        try:
            if self._history is not None:
                self._history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(os.open(self._history, os.O_CREAT | os.O_WRONLY, _FILE_MODE))
                self._history.chmod(_FILE_MODE)
            yield self._history
            if self._history is not None:
                self._history.chmod(_FILE_MODE)
        except OSError as error:
            note(f"note: no history is kept: {self._history}: {error.strerror}")
            self._history = None

    def _complete(self, word: str, state: int) -> str | None:
        assert self._readline is not None, "readline calls this"
        if state == 0:
            line = self._readline.get_line_buffer()[: self._readline.get_endidx()]
            self._found = self._completer.candidates(line, word)
        return self._found[state] if state < len(self._found) else None


def _readline() -> ModuleType | None:
    try:
        import readline
    except ImportError:
        # As on Windows: lines are read all the same, without history and Tab.
        return None
    return readline
