"""The data folder: where each thing lives, made with the right permissions.

DIR/                      0700
├── secrets/              0700: master_key, quack_token, nats.json, config.yaml (0600 each)
├── nats/                 nats.conf (0600) and JetStream's store
├── proxy/<worker>/       outbox segments, registry.json (hashes only, 0600)
├── ledger.duckdb         the writer's books
├── archive/              what has left the stream USAGE, written by the writer alone
├── snapshots/           snapshots of the books until they are fetched
├── reader/reader.duckdb  the reader's own projection, which can be thrown away
├── parquet/              requests by day, written by the reader, which can be thrown away
├── quack/quack.duckdb    the same for the server of DuckDB's protocol
└── run/                  sockets of the running processes; metrics/ has those that tell metrics
"""

import os
import secrets
from pathlib import Path

from schemas.errors import ConfigError

__all__ = ["DataFolder", "write_private"]

QUACK_TOKEN_CHARACTERS_MIN = 16
_MASTER_KEY_PREFIX = "sk-master-"
_PARTS = frozenset(
    {
        "secrets",
        "nats",
        "proxy",
        "ledger.duckdb",
        "archive",
        "snapshots",
        "reader",
        "parquet",
        "quack",
        "run",
    }
)
_IGNORED = frozenset({"lost+found"})
"""What a file system of its own, mounted for the data, holds from the beginning."""


class DataFolder:
    """The data folder of one installation. Making it raises ConfigError where that fails."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._check_ours(self.path)
        self._make(self.path)

    @staticmethod
    def _check_ours(path: Path) -> None:
        """Raise ConfigError for a folder of other things that others may enter.

        Making it a data folder would take it away from them: it becomes 0700.
        """
        try:
            names = {entry.name for entry in path.iterdir()}
            is_open = bool(path.stat().st_mode & 0o077) and path.stat().st_uid == os.getuid()
        except OSError:
            # It is not there yet, or _make says what is wrong with it.
            return
        if is_open and names - _IGNORED and not names & _PARTS:
            raise ConfigError(
                f"the folder {path} holds other things and is no data folder of tallygate: "
                "give one of its own with --data DIR (a new one is made)"
            )

    @staticmethod
    def _make(path: Path) -> Path:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.stat().st_uid == os.getuid():
                path.chmod(0o700)
        except OSError as error:
            raise ConfigError(
                f"the data folder {path} cannot be used ({error.strerror}): "
                "give another one with --data DIR"
            ) from None
        return path

    @property
    def secrets(self) -> Path:
        """The folder of generated secrets (0700)."""
        return self._make(self.path / "secrets")

    @property
    def accepted_config(self) -> Path:
        """The copy of the configuration in force, from which children are started again (0600)."""
        return self.secrets / "config.yaml"

    @property
    def nats(self) -> Path:
        """The folder of the embedded nats-server."""
        return self._make(self.path / "nats")

    @property
    def run(self) -> Path:
        """The folder of sockets and other things that live as long as the processes."""
        return self._make(self.path / "run")

    @property
    def metrics(self) -> Path:
        """Where each running process has a socket that tells its metrics."""
        return self.run / "metrics"

    @property
    def ledger_database(self) -> Path:
        """The writer's DuckDB file."""
        return self.path / "ledger.duckdb"

    @property
    def archive(self) -> Path:
        """Where archived events are. The writer makes it; other services' may be read-only."""
        return self.path / "archive"

    @property
    def snapshots(self) -> Path:
        """Where the writer makes snapshots of its books, which are fetched from there."""
        return self._make(self.path / "snapshots")

    @staticmethod
    def is_part(folder: Path, path: Path) -> bool:
        """Tell whether a path is that of something which a data folder holds by itself."""
        try:
            parts = path.resolve().relative_to(folder.resolve()).parts
        except ValueError:
            return False
        return not parts or parts[0].removesuffix(".wal") in _PARTS

    @property
    def reader_database(self) -> Path:
        """The reader's DuckDB file."""
        return self._make(self.path / "reader") / "reader.duckdb"

    @property
    def parquet(self) -> Path:
        """Where the reader keeps the requests as Parquet files by day."""
        return self._make(self.path / "parquet")

    @property
    def quack_database(self) -> Path:
        """The DuckDB file of the process that serves Quack, which can be thrown away."""
        return self._make(self.path / "quack") / "quack.duckdb"

    @property
    def quack_token_file(self) -> Path:
        """Where the token for Quack is kept (0600)."""
        return self.secrets / "quack_token"

    def quack_token(self) -> str:
        """Return the token for Quack, making it once. Raises ConfigError for a short one."""
        path = self.quack_token_file
        if not path.exists():
            write_private(path, secrets.token_urlsafe(32).encode())
        token = path.read_text().strip()
        if len(token) < QUACK_TOKEN_CHARACTERS_MIN:
            raise ConfigError(
                f"{path} holds less than {QUACK_TOKEN_CHARACTERS_MIN} characters: delete it, and "
                "a new token is generated"
            )
        return token

    def proxy(self, worker: int) -> Path:
        """The folder of one proxy worker: its outbox and its copy of the registry."""
        return self._make(self._make(self.path / "proxy") / str(worker))

    @property
    def master_key_file(self) -> Path:
        """Where a generated master key is kept (0600)."""
        return self.secrets / "master_key"

    def master_key(self) -> str:
        """Return the generated master key, making it once. Raises ConfigError for an empty file."""
        path = self.master_key_file
        try:
            key = path.read_text().strip()
        except FileNotFoundError:
            write_private(path, (_MASTER_KEY_PREFIX + secrets.token_urlsafe(32)).encode())
            key = path.read_text().strip()
        if not key:
            raise ConfigError(f"{path} is empty: delete it, and a new master key is generated")
        return key


def write_private(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, readable by its owner alone (0600)."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
