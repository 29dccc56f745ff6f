"""The way of a command to the streams: a NATS that runs, or the embedded one, run for a while.

Each of the services' users on NATS may do something else; a command takes the one that may do what
it needs, under that user's name (its replies come to that user's inbox alone).
"""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from schemas.errors import ConfigError
from services.commands.addresses import checked_nats_url
from services.runtime.child import die_with
from services.runtime.folder import DataFolder
from services.runtime.folder_lock import lock_folder
from services.runtime.nats_server import EmbeddedNats, running_nats_url

__all__ = ["StreamAccess", "stream_access"]

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.05


class StreamAccess(msgspec.Struct, frozen=True):
    """A NATS server's URL, whose user may do what the command needs, and the name to connect as.

    `is_alone`: nothing else runs on this data folder, and nothing can be started meanwhile.
    """

    url: str
    user: str
    is_alone: bool


@contextmanager
def stream_access(
    nats_url: str | None, data: Path, user: str, user_alone: str
) -> Iterator[StreamAccess]:
    """Give access to the streams of an installation, as `user`; as `user_alone` in the last case.

    In this order: the server that is named; the embedded one that runs in the data folder; that
    one, started now and ended afterwards. Raises ConfigError where there is none of these.
    """
    if nats_url:
        url = checked_nats_url(nats_url)
        yield StreamAccess(url, urlsplit(url).username or user, is_alone=False)
        return
    if not data.is_dir():
        raise ConfigError(
            f"there is no data folder {data}: name it with --data DIR, or a NATS server with "
            "--nats-url URL"
        )
    url_now = running_nats_url(data, user)
    if url_now is not None:
        yield StreamAccess(url_now, user, is_alone=False)
        return
    if not (data / "nats" / "store").is_dir():
        raise ConfigError(
            f"the data folder {data} has no embedded nats-server: name the server that its "
            "gateway uses with --nats-url URL (or $TALLYGATE_NATS_URL)"
        )
    with _own_server(DataFolder(data), user_alone) as url:
        yield StreamAccess(url, user_alone, is_alone=True)


@contextmanager
def _own_server(folder: DataFolder, user: str) -> Iterator[str]:
    """Run the embedded server of a folder in which nothing runs."""
    # Held until the end: a gateway that is started meanwhile says that the folder is in use.
    lock = lock_folder(folder)
    try:
        yield from _served(folder, lock, user)
    finally:
        os.close(lock)


def _served(folder: DataFolder, lock: int, user: str) -> Iterator[str]:
    server = EmbeddedNats(folder)
    log_path = folder.run / "nats-server.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            server.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(lock,),
            # Ctrl-C reaches the command alone, which ends the server.
            process_group=0,
            preexec_fn=die_with(os.getpid()),  # noqa: PLW1509
        )
    try:
        asyncio.run(_until_it_answers(server, process, log_path))
        yield server.url(user)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _until_it_answers(
    server: EmbeddedNats, process: "subprocess.Popen[bytes]", log_path: Path
) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not await server.answers():
                if process.poll() is not None:
                    break
                await asyncio.sleep(POLL_S)
            else:
                return
    except TimeoutError:
        pass
    raise ConfigError(f"the embedded nats-server does not start: {log_path} says why")
