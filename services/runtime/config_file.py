"""The configuration file of one process: what is in force, and what the file holds now.

Which content is in force is decided by a start and by a reload alone, never by an edit. A process
that `tallygate serve` starts again in between must come up with what was accepted, not with what
somebody is typing: so the accepted content is kept in the data folder (0600), and the supervisor's
children read that copy when they start. A service that runs by itself reads the file.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from schemas.config import GatewayConfig
from services.runtime.config import read_config, read_content
from services.runtime.config_changes import restart_needed
from services.runtime.folder import write_private

__all__ = ["ConfigFile", "Reading"]


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """The file's content at one moment and its SHA-256; it is not checked yet."""

    content: bytes
    sha256: str


class ConfigFile:
    """The configuration in force (`config`, made of `content`, whose digest is `sha256`).

    Making one raises ConfigError, which lists every problem of the file.
    """

    def __init__(
        self, path: Path, environment: Mapping[str, str], *, accepted: Path | None = None
    ) -> None:
        self.path = path
        self._environment = environment
        self._accepted = accepted
        source = accepted if accepted is not None and accepted.exists() else path
        self.content = read_content(source)
        self.sha256 = hashlib.sha256(self.content).hexdigest()
        self.config = read_config(self.content, str(path), environment)
        self._at_start = self.config

    def read(self) -> Reading:
        """Return what the file holds now. Raises ConfigError where it cannot be read."""
        return _reading(self.path)

    def read_ordered(self, sha256: str) -> Reading:
        """Return the content with this digest where it is here, else what the file holds now.

        Another process of the same data folder may have accepted it before the file was edited
        again. Raises ConfigError as `read` does.
        """
        accepted = self._accepted
        if accepted is not None and accepted.exists():
            kept = _reading(accepted)
            if kept.sha256 == sha256:
                return kept
        return self.read()

    def check(self, reading: Reading) -> GatewayConfig:
        """Return the configuration of a reading. Raises ConfigError with every problem."""
        return read_config(reading.content, str(self.path), self._environment)

    def accept(self, reading: Reading, config: GatewayConfig) -> None:
        """Put a checked reading in force, also for the processes that are started from now on."""
        if self._accepted is not None:
            write_private(self._accepted, reading.content)
        self.config, self.sha256, self.content = config, reading.sha256, reading.content

    @property
    def restart_needed(self) -> tuple[str, ...]:
        """The settings whose new values wait for this process to be started again."""
        return restart_needed(self._at_start, self.config)


def _reading(path: Path) -> Reading:
    content = read_content(path)
    return Reading(content=content, sha256=hashlib.sha256(content).hexdigest())
