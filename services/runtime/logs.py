"""Logging: one JSON object a line on standard error, with secrets masked.

The standard library's logging is used directly: structlog, with what it imports, costs 0.3 s at
the start of each process (docs/adr/0003).
"""

import logging
import re
import sys
from datetime import UTC, datetime

import msgspec

__all__ = ["LOG_LINE_BYTES_MAX", "configure_logging", "mask_secrets"]

LOG_LINE_BYTES_MAX = 16 * 1024
"""No line is longer; long texts are cut: a log is no place for bodies."""
_TEXT_LENGTH_MAX = 4 * 1024

_SECRETS = re.compile(
    r"(sk-(?:ant-)?)[A-Za-z0-9_-]{4,}|(Bearer\s+)\S+|(nats://)[^@/\s]+@", re.IGNORECASE
)
# uvicorn's `color_message` is its message once more, for terminals.
_NOT_SHOWN = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}


def mask_secrets(text: str) -> str:
    """Return the text with keys, tokens and credentials in URLs replaced by `***`."""
    return _SECRETS.sub(lambda found: (found[1] or found[2] or found[3] or "") + "***", text)


class _JsonFormatter(logging.Formatter):
    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "part": self._part,
            "logger": record.name,
            "message": _shown(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _NOT_SHOWN:
                is_plain = isinstance(value, int | float | bool | None)
                line[name] = value if is_plain else _shown(str(value))
        if record.exc_info:
            line["exception"] = _shown(self.formatException(record.exc_info))
        return msgspec.json.encode(line).decode()


def _shown(text: str) -> str:
    """Return a text as a log may show it: not too long, without secrets."""
    # Masked before it becomes JSON: a mask must not swallow a quote of the line.
    return mask_secrets(text[:_TEXT_LENGTH_MAX])


def configure_logging(part: str, level: str) -> None:
    """Log as JSON lines to standard error from now on, naming this process `part`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter(part))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Libraries that log requests with headers or addresses are kept to their warnings.
    for noisy in ("httpx", "httpcore", "nats", "uvicorn.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
