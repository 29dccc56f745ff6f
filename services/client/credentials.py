"""Where a command's credential comes from: a file, the environment, or the data folder."""

import sys
from collections.abc import Mapping
from pathlib import Path

from schemas.keys import KEY_LENGTH_MAX
from services.client.gateway import EXIT_UNAUTHENTICATED, ClientError

__all__ = ["KEY_VARIABLE", "MASTER_KEY_VARIABLES", "find_key", "is_key", "read_key"]

MASTER_KEY_VARIABLES = ("TALLYGATE_MASTER_KEY", "LITELLM_MASTER_KEY")
KEY_VARIABLE = "TALLYGATE_KEY"
"""Holds a virtual key: one whose user's role, or whose own permission, is enough."""

_STANDARD_INPUT = "-"


def find_key(
    file: Path | None, data: Path, environment: Mapping[str, str], *, virtual_first: bool = False
) -> str:
    """Return the credential: from `file`, else the environment, else the data folder.

    With `virtual_first` the environment's virtual key goes before its master key. Raises
    ClientError, which says where it was looked for.
    """
    if file is not None:
        return read_key(file)
    names = [*MASTER_KEY_VARIABLES]
    names.insert(0 if virtual_first else len(names), KEY_VARIABLE)
    for name in names:
        if environment.get(name):
            return environment[name].strip()
    generated = data / "secrets" / "master_key"
    if generated.is_file():
        return read_key(generated)
    raise ClientError(
        f"no key: none of {', '.join(names)} is set, nor is there {generated}. Sign in with "
        "`tallygate login`, name the data folder with --data, or a file with --key-file",
        EXIT_UNAUTHENTICATED,
    )


def read_key(path: Path) -> str:
    """Return the key that a file holds; `-` is standard input. Raises ClientError."""
    try:
        if str(path) == _STANDARD_INPUT:
            key = sys.stdin.read(KEY_LENGTH_MAX + 2).strip()
        else:
            with path.open(encoding="utf-8") as file:
                key = file.read(KEY_LENGTH_MAX + 2).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ClientError(
            f"the key cannot be read from {path}: {reason}", EXIT_UNAUTHENTICATED
        ) from None
    if not is_key(key):
        place = "standard input" if str(path) == _STANDARD_INPUT else path
        raise ClientError(f"{place} holds no key", EXIT_UNAUTHENTICATED)
    return key


def is_key(text: str) -> bool:
    """Tell whether a text may be a key: it can stand in a header, and is not too long."""
    return (
        0 < len(text) <= KEY_LENGTH_MAX and text.isascii() and text.isprintable()
    ) and " " not in text
