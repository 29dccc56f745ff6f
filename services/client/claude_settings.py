"""The variables in a settings file of Claude Code: read, changed, all else left as it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from services.client.gateway import ClientError
from services.client.own_files import read_file, replace_file

__all__ = ["ClaudeSettings", "read_claude_settings", "settings_file", "settings_files"]

SETTINGS_BYTES_MAX = 1024 * 1024
"""A longer file is refused: it is no settings file."""

_Parts = dict[str, msgspec.Raw]


class ClaudeSettings(NamedTuple):
    """A settings file; what is not a variable is kept as the bytes that it was."""

    path: Path
    """Where the file is, symbolic links followed."""
    content: bytes | None
    """The whole file, None where there is none."""
    parts: dict[str, msgspec.Raw]
    variables: dict[str, msgspec.Raw]
    texts: dict[str, str]
    """The variables that are texts."""

    @property
    def has_key_helper(self) -> bool:
        """Tell whether a script hands out Claude Code's credential."""
        return "apiKeyHelper" in self.parts

    def write(self, changes: Mapping[str, str | None]) -> None:
        """Replace the file by one with changed variables; None takes one away.

        Raises ClientError, also where the file has changed since it was read.
        """
        variables = dict(self.variables)
        for name, value in changes.items():
            if value is None:
                variables.pop(name, None)
            else:
                variables[name] = msgspec.Raw(msgspec.json.encode(value))
        parts = self.parts | {"env": msgspec.Raw(msgspec.json.encode(variables))}
        text = msgspec.json.format(msgspec.json.encode(parts), indent=2) + b"\n"
        replace_file(self.path, text, before=self.content)


def settings_file(given: str, environment: Mapping[str, str]) -> Path:
    """Return the settings file that is meant: the user's own where none is given."""
    if given:
        return Path(given).expanduser()
    folder = environment.get("CLAUDE_CONFIG_DIR")
    return (Path(folder) if folder else Path.home() / ".claude") / "settings.json"


def settings_files(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the files that Claude Code reads in this folder; what stands in a later one decides.

    They need not be there. An organisation's own (managed) settings are not among them.
    """
    project = Path(".claude")
    return (
        settings_file("", environment),
        project / "settings.json",
        project / "settings.local.json",
    )


def read_claude_settings(path: Path) -> ClaudeSettings:
    """Read a settings file, which need not be there. Raises ClientError."""
    try:
        path = path.resolve()
    except (OSError, RuntimeError) as error:
        raise ClientError(f"{path} cannot be read: {error}") from None
    content = read_file(path, SETTINGS_BYTES_MAX)
    if content is None or not content.strip():
        return ClaudeSettings(path, content, {}, {}, {})
    try:
        parts = msgspec.json.decode(content, type=_Parts)
        variables = msgspec.json.decode(parts.get("env", b"{}"), type=_Parts)
        values = {name: msgspec.json.decode(raw) for name, raw in variables.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ClientError(
            f"{path} is no settings file of Claude Code ({error}); it was left as it is"
        ) from None
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    return ClaudeSettings(path, content, parts, variables, texts)
