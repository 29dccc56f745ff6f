"""`tallygate snapshot`: a consistent copy of the books, while they are being kept or not."""

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

import duckdb
import msgspec

from schemas.errors import ConfigError
from schemas.snapshot import Snapshot, SnapshotReply, SnapshotRequest
from schemas.streams import SNAPSHOT_SUBJECT
from services.commands.addresses import checked_nats_url
from services.commands.books import print_json, run_on_bus
from services.commands.stream_access import StreamAccess
from services.ledger.books_reading import read_books
from services.ledger.rebuild import files_of
from services.ledger.snapshot import SnapshotFailed, make_snapshot, remove_leftovers, room_missing
from services.runtime.bus import Bus, BusUnavailable
from services.runtime.folder import DataFolder
from services.runtime.folder_lock import lock_folder
from services.runtime.nats_server import running_nats_url

__all__ = ["run_snapshot"]

REQUEST_TIMEOUT_S = 30.0
SNAPSHOT_TIMEOUT_S = 3700.0


def run_snapshot(values: argparse.Namespace) -> int:
    """Make the copy and put it where it is wanted; return 0.

    Raises ConfigError where it cannot be made or put there.
    """
    target: Path = values.file.absolute()
    _check_target(target, values.data, force=values.force)
    if not (values.data / "ledger.duckdb").exists():
        raise ConfigError(
            f"there are no books in {values.data}: name the data folder of the ledger's writer "
            "with --data DIR. The copy is made where the writer runs, not over the network"
        )
    snapshot = _made(values.nats_url, values.data)
    made = Path(snapshot.path)
    if not made.exists():
        raise ConfigError(
            f"the snapshot was made as {made}, which is not on this machine: run the command where "
            "the ledger's writer runs"
        )
    try:
        _check_target(target, values.data, force=values.force)
        _put(made, target)
    finally:
        made.unlink(missing_ok=True)
    snapshot = msgspec.structs.replace(snapshot, path=str(target))
    if values.json:
        print_json(msgspec.to_builtins(snapshot))
    else:
        sys.stdout.write(_report(snapshot))
    return 0


def _check_target(target: Path, data: Path, *, force: bool) -> None:
    if not target.parent.is_dir():
        raise ConfigError(f"there is no folder {target.parent}: make it first")
    if DataFolder.is_part(data, target):
        raise ConfigError(
            f"{target} is where the gateway keeps files of its own: name another file"
        )
    if target.is_dir():
        raise ConfigError(f"{target} is a folder: name a file in it")
    # The log of another database would be taken for the snapshot's own when it is opened.
    taken = [each for each in files_of(target) if each.exists()]
    if taken and not force:
        raise ConfigError(f"{taken[0]} exists: name another file, or replace it with --force")


def _made(nats_url: str | None, data: Path) -> Snapshot:
    """Have the writer that runs make it; make it here where none does."""
    user = "admin"
    if nats_url:
        url: str | None = checked_nats_url(nats_url)
        user = urlsplit(str(url)).username or user
    else:
        url = running_nats_url(data, user)
    if url is not None:
        with suppress(BusUnavailable):
            return run_on_bus(StreamAccess(url, user, is_alone=False), _ask)
    folder = DataFolder(data)
    with _locked(folder, is_ours=url is None), _opened(folder.ledger_database):

        async def hold(copy: Callable[[], float]) -> float:
            return await asyncio.to_thread(copy)

        remove_leftovers(folder.snapshots)
        try:
            return asyncio.run(make_snapshot(folder.ledger_database, folder.snapshots, hold))
        except SnapshotFailed as error:
            raise ConfigError(str(error)) from None


async def _ask(bus: Bus) -> Snapshot:
    """Ask the running writer. Raises BusUnavailable where there is none, ConfigError."""
    request = msgspec.json.encode(SnapshotRequest(id=token_hex(8)))
    try:
        async with asyncio.timeout(SNAPSHOT_TIMEOUT_S):
            while True:
                payload = await bus.request(SNAPSHOT_SUBJECT, request, timeout_s=REQUEST_TIMEOUT_S)
                reply = msgspec.json.decode(payload, type=SnapshotReply)
                if reply.error is not None:
                    raise ConfigError(reply.error)
                if reply.snapshot is not None:
                    return reply.snapshot
    except TimeoutError:
        raise ConfigError(f"the writer made no snapshot in {SNAPSHOT_TIMEOUT_S:g} s") from None


@contextmanager
def _locked(folder: DataFolder, *, is_ours: bool) -> Iterator[None]:
    """Keep a gateway from being started meanwhile, where it is one with an embedded NATS."""
    if not is_ours:
        yield
        return
    lock = lock_folder(folder)
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def _opened(path: Path) -> Iterator[None]:
    """Have the books open, so that nobody writes them. Raises ConfigError."""
    with ExitStack() as books:
        try:
            books.enter_context(read_books(path))
        except duckdb.Error as error:
            reason = str(error).split("\n", 1)[0][:300]
            raise ConfigError(
                f"{path} cannot be opened ({reason}). If the ledger is just starting, try again "
                "in some seconds; if its NATS is another one, name it with --nats-url URL"
            ) from None
        yield


def _put(made: Path, target: Path) -> None:
    """Give the copy its name, in one step. Raises ConfigError where there is no room for it."""
    log, _ = files_of(target)
    if made.stat().st_dev == target.parent.stat().st_dev:
        log.unlink(missing_ok=True)
        made.replace(target)
        _sync(target.parent)
        return
    if (missing := room_missing(target.parent, made.stat().st_size)) is not None:
        raise ConfigError(missing)
    partial = target.with_name(f".{target.name}.{token_hex(4)}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as written, made.open("rb") as read:
            shutil.copyfileobj(read, written, 1024 * 1024)
            written.flush()
            os.fsync(written.fileno())
        log.unlink(missing_ok=True)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    _sync(target.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _report(snapshot: Snapshot) -> str:
    return (
        f"{snapshot.path}: {snapshot.requests:,} requests, up to message {snapshot.sequence:,} of "
        f"the stream, {snapshot.size_bytes:,} bytes\n"
        f"digest {snapshot.digest}\n"
        f"the books stood still for {snapshot.held_ms:,.0f} ms of {snapshot.duration_s:,.1f} s\n"
    )
