"""Files of the user's that a command changes: read whole, replaced whole or not at all."""

import os
import stat
import tempfile
from pathlib import Path

from services.client.gateway import ClientError

__all__ = ["is_readable_by_others", "read_file", "replace_file"]

_NEW_FOLDER_MODE = 0o700


def read_file(path: Path, bytes_max: int) -> bytes | None:
    """Return what a file holds, None where there is none. Raises ClientError."""
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ClientError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > bytes_max:
        raise ClientError(f"{path} is longer than {bytes_max} bytes: is it the right file?")
    return content


def replace_file(
    path: Path, content: bytes, *, before: bytes | None, mode: int | None = None
) -> None:
    """Put `content` in the place of what `read_file` found `before`, at once or not at all.

    An existing file keeps its mode, unless `mode` is given, and its owner; a new one, and a folder
    that must be made for it, are their owner's alone. Raises ClientError, also where the file has
    changed meanwhile.
    """
    try:
        path.parent.mkdir(mode=_NEW_FOLDER_MODE, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                if before is not None:
                    _keep_owner_and_mode(path, file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            _check_unchanged(path, before)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ClientError(f"{path} cannot be written: {error.strerror}") from None


def is_readable_by_others(path: Path) -> bool:
    """Tell whether a file may be read by more than its owner."""
    return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _keep_owner_and_mode(path: Path, descriptor: int, mode: int | None) -> None:
    status, made = path.stat(), os.fstat(descriptor)
    if (status.st_uid, status.st_gid) != (made.st_uid, made.st_gid):
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode) if mode is None else mode)


def _check_unchanged(path: Path, before: bytes | None) -> None:
    try:
        now = path.read_bytes()
    except FileNotFoundError:
        now = None
    if now != before:
        raise ClientError(f"{path} has just been changed by another: try again")
