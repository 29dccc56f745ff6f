"""Where the supervisor writes logs: readable lines to a terminal, JSON lines to anything else."""

import os
from datetime import UTC, datetime
from typing import TextIO

from services.runtime.log_lines import LogLine, level_number, parse_line, readable, to_json

__all__ = ["SUPERVISOR", "LogSink"]

SUPERVISOR = "supervisor"
"""The part that the supervisor's own lines name."""


class LogSink:
    """Writes the lines of all parts to one stream, from `level` on."""

    def __init__(self, stream: TextIO, level: str) -> None:
        self._stream = stream
        self._level_number = level_number(level)
        self._readable = stream.isatty()
        self._colour = self._readable and not os.environ.get("NO_COLOR")

    def set_level(self, level: str) -> None:
        """Write lines from another level on."""
        self._level_number = level_number(level)

    def child_line(self, part: str, raw: bytes) -> LogLine:
        """Write a line that a child wrote; return it."""
        line = parse_line(part, raw, datetime.now(UTC))
        self._write(line)
        return line

    def say(self, level: str, message: str, **fields: object) -> None:
        """Write a line of the supervisor's own."""
        now = datetime.now(UTC)
        self._write(LogLine(time=now, level=level, part=SUPERVISOR, message=message, fields=fields))

    def _write(self, line: LogLine) -> None:
        if level_number(line.level) < self._level_number:
            return
        text = readable(line, colour=self._colour) if self._readable else to_json(line)
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            # Whoever read the log is gone. The gateway does not stop for that.
            return
