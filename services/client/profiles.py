"""Profiles: gateways that the user has signed in to, each with its address and its credential.

They are kept in one file that the user alone may read. The credential of a profile goes to the
address of that profile and to no other.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from services.client.gateway import EXIT_UNAUTHENTICATED, ClientError
from services.client.output import note
from services.client.own_files import is_readable_by_others, read_file, replace_file

__all__ = [
    "DEFAULT_PROFILE",
    "PROFILE_VARIABLE",
    "URL_DEFAULT",
    "URL_VARIABLE",
    "Profile",
    "Profiles",
    "check_profile_name",
    "complete_profile",
    "find_address",
    "read_profiles",
]

URL_DEFAULT = "http://127.0.0.1:4000"
URL_VARIABLE = "TALLYGATE_URL"
PROFILE_VARIABLE = "TALLYGATE_PROFILE"
DEFAULT_PROFILE = "default"
PROFILES_BYTES_MAX = 1024 * 1024
PROFILES_MAX = 100

_FILE_MODE = 0o600
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway and the credential for it; `signed_in_as` is how the gateway knows that.

    `ca_file` holds the certificates of a CA that its certificate may come from.
    """

    url: str
    key: str
    is_master_key: bool
    signed_in_as: str
    ca_file: str | None = None

    @property
    def ca_path(self) -> Path | None:
        """Where `ca_file` is."""
        return None if self.ca_file is None else Path(self.ca_file)


class _Content(msgspec.Struct):
    profiles: dict[str, Profile] = {}


class Profiles:
    """The profiles of a user."""

    def __init__(self, path: Path, content: bytes | None, profiles: dict[str, Profile]) -> None:
        self.path = path
        self.all = profiles
        self._content = content

    def named(self, name: str) -> Profile:
        """Return a profile. Raises ClientError where there is none."""
        found = self.all.get(name)
        if found is None:
            known = ", ".join(sorted(self.all)) or "none"
            raise ClientError(
                f"there is no profile {name!r} (there is {known}); `tallygate login --profile "
                f"{name}` makes it",
                EXIT_UNAUTHENTICATED,
            )
        return found

    def write(self) -> None:
        """Keep what they are now. Raises ClientError."""
        if len(self.all) > PROFILES_MAX:
            raise ClientError(f"there are {PROFILES_MAX} profiles: `tallygate logout` of one first")
        content = msgspec.json.format(msgspec.json.encode(_Content(self.all)), indent=2) + b"\n"
        replace_file(self.path, content, before=self._content, mode=_FILE_MODE)
        self._content = content


def read_profiles(environment: Mapping[str, str]) -> Profiles:
    """Return the user's profiles; there need not be any. Raises ClientError."""
    folder = environment.get("XDG_CONFIG_HOME")
    path = (Path(folder) if folder else Path.home() / ".config") / "tallygate" / "profiles.json"
    content = read_file(path, PROFILES_BYTES_MAX)
    if content is None:
        return Profiles(path, None, {})
    try:
        profiles = msgspec.json.decode(content, type=_Content).profiles
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ClientError(f"{path} cannot be read ({error}): mend it, or delete it") from None
    if is_readable_by_others(path):
        note(f"note: others may read {path}, and the keys in it: chmod 600 changes that")
    return Profiles(path, content, profiles)


def find_address(
    url: str | None, profile: str | None, environment: Mapping[str, str]
) -> tuple[str, Profile | None]:
    """Return which gateway is meant, and the profile that says so, if it is one.

    In this order: the option --url or --profile, $TALLYGATE_PROFILE, $TALLYGATE_URL, the profile
    `default`, the gateway of this machine. Raises ClientError where a profile is not there.
    """
    if url is not None:
        return url, None
    name = profile or environment.get(PROFILE_VARIABLE)
    if not name and environment.get(URL_VARIABLE):
        return environment[URL_VARIABLE], None
    profiles = read_profiles(environment)
    found = profiles.named(name) if name else profiles.all.get(DEFAULT_PROFILE)
    return (URL_DEFAULT, None) if found is None else (found.url, found)


def complete_profile(_: object, __: object, incomplete: str) -> list[str]:
    """Return the names of profiles that begin so, for a shell that asks."""
    try:
        names = read_profiles(os.environ).all
    except ClientError:
        return []
    return [name for name in sorted(names) if name.startswith(incomplete)]


def check_profile_name(name: str) -> str:
    """Return a profile's name. Raises ClientError where it cannot be one."""
    if _NAME.fullmatch(name) is None:
        raise ClientError(
            f"{name!r} cannot be a profile's name: up to 64 letters, digits, dots, dashes"
        )
    return name
