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
"""A longer line is cut: a log is no place for bodies."""

_SECRETS = re.compile(
    r"(sk-(?:ant-)?)[A-Za-z0-9_-]{4,}|(Bearer\s+)\S+|(nats://)[^@/\s]+@", re.IGNORECASE
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


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
            "message": record.getMessage(),
        }
        line.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        text = msgspec.json.encode(line, enc_hook=str).decode()
        return mask_secrets(text[:LOG_LINE_BYTES_MAX])


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
