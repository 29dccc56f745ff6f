"""What children write, read and shown again: JSON lines for machines, short lines for people.

Services log JSON objects (services.runtime.logs), nats-server has a form of its own, and a Python
that cannot even start writes plain text. All three become a LogLine.
"""

import re
from datetime import UTC, datetime

import msgspec

from services.runtime.logs import LOG_LINE_BYTES_MAX, mask_secrets

__all__ = ["LogLine", "level_number", "parse_line", "readable", "to_json"]

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_NATS_LINE = re.compile(r"^\[\d+\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d+ \[([A-Z]{3})\] ?(.*)$")
# What nats-server calls information (its banner, each stream it recovers) is detail here.
_NATS_LEVELS = {"INF": "debug", "WRN": "warning", "ERR": "error", "FTL": "critical"}
# The passwords are random, 192 bits long, and stand in a file that its owner alone can read.
_NATS_EXPECTED = ("Plaintext passwords detected",)
_COLOURS = {"debug": "2", "warning": "33", "error": "31", "critical": "1;31"}
# `color_message` is uvicorn's own `message` for terminals.
_OWN = frozenset({"time", "level", "part", "message", "color_message"})
_HIDDEN = frozenset({"logger", "exception"})


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a log. `fields` holds whatever else a JSON line said."""

    time: datetime
    level: str
    part: str
    message: str
    fields: dict[str, object] = {}


def level_number(level: str) -> int:
    """Return a level's rank, as the standard library's logging has it (unknown: info)."""
    return _LEVELS.get(level.lower(), _LEVELS["info"])


def parse_line(part: str, raw: bytes, now: datetime) -> LogLine:
    """Read one line that the child `part` wrote. Never raises; secrets are masked."""
    text = raw[:LOG_LINE_BYTES_MAX].decode("utf-8", "replace").rstrip()
    if text.startswith("{"):
        line = _parse_json(part, text, now)
        if line is not None:
            return line
    found = _NATS_LINE.match(text)
    if found is not None:
        expected = found[2].startswith(_NATS_EXPECTED)
        level = "debug" if expected else _NATS_LEVELS.get(found[1], "debug")
        return LogLine(time=now, level=level, part=part, message=mask_secrets(found[2]))
    # Plain text on standard error is a trace of a process that failed before it could log.
    return LogLine(time=now, level="warning", part=part, message=mask_secrets(text))


def _parse_json(part: str, text: str, now: datetime) -> LogLine | None:
    try:
        fields = msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.MsgspecError, RecursionError):
        return None
    message = fields.get("message")
    if not isinstance(message, str):
        return None
    level = str(fields.get("level", "info"))
    try:
        time = msgspec.convert(fields.get("time"), datetime)
    except msgspec.ValidationError:
        time = now
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    rest = {name: _masked(value) for name, value in fields.items() if name not in _OWN}
    return LogLine(
        time=time,
        level=level if level in _LEVELS else "info",
        part=part,
        message=mask_secrets(message),
        fields=rest,
    )


def _masked(value: object) -> object:
    """Return a JSON value with the secrets in its texts masked."""
    if isinstance(value, str):
        return mask_secrets(value)
    if isinstance(value, dict | list):
        return mask_secrets(str(value))
    return value


def to_json(line: LogLine) -> str:
    """Return the line as one JSON object, in the form that services log."""
    return msgspec.json.encode(
        {
            "time": line.time,
            "level": line.level,
            "part": line.part,
            "message": line.message,
            **line.fields,
        },
        enc_hook=str,
    ).decode()


def readable(line: LogLine, *, colour: bool = False) -> str:
    """Return the line for a person: local time, part, message, and what else it says."""
    time = line.time.astimezone().strftime("%H:%M:%S.%f")[:-3]
    level = "" if line.level == "info" else f"{line.level}: "
    extra = "".join(
        f" {name}={value}" for name, value in line.fields.items() if name not in _HIDDEN
    )
    text = f"{time} {line.part:<13} {level}{line.message}{extra}"
    exception = line.fields.get("exception")
    if isinstance(exception, str):
        text += "\n" + "\n".join(f"    {row}" for row in exception.splitlines())
    if colour and line.level in _COLOURS:
        return f"\x1b[{_COLOURS[line.level]}m{text}\x1b[0m"
    return text
