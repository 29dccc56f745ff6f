"""Reading typed values out of the YAML tree, gathering every problem instead of the first.

Each read returns None where the value is not as it must be, after noting why. No note ever quotes
a value, since it may be a secret: it names the key, the line, and what to write instead.
"""

import re
from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from schemas.errors import ConfigError
from services.runtime.config_keys import SECTIONS, is_off, nearest, other_home
from services.runtime.yaml_lines import Node

__all__ = ["PROBLEMS_SHOWN_MAX", "ConfigReader", "described", "plain"]

PROBLEMS_SHOWN_MAX = 50
"""More problems than this are counted, not listed."""

_ENVIRONMENT = "os.environ/"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def plain(node: Node) -> Any:
    """Return a node as plain Python values, variables of the environment not filled in."""
    if isinstance(node.value, Mapping):
        return {key: plain(item) for key, item in node.value.items()}
    if isinstance(node.value, tuple):
        return tuple(plain(item) for item in node.value)
    return node.value


def described(wanted: Any) -> str:
    """Return a type, with its bounds, in words: "a whole number from 1 to 100"."""
    info = msgspec.inspect.type_info(wanted)
    if isinstance(info, msgspec.inspect.UnionType):
        info = next(part for part in info.types if not isinstance(part, msgspec.inspect.NoneType))
    match info:
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.IntType():
            return f"a whole number from {info.ge} to {info.le}"
        case msgspec.inspect.FloatType():
            return f"a number from {info.ge:g} to {info.le:g}"
        case msgspec.inspect.LiteralType():
            return "one of " + ", ".join(get_args(wanted))
        case msgspec.inspect.VarTupleType():
            return "a list of texts"
        case msgspec.inspect.StrType(max_length=int(longest)):
            return f"text of at most {longest} characters"
    return "text"


class ConfigReader:
    """One reading of a file: its environment, and the problems and notices found so far."""

    def __init__(self, path: str, environment: Mapping[str, str]) -> None:
        self._path = path
        self._environment = environment
        self._problems: list[tuple[int, str]] = []
        self._notices: list[tuple[int, str]] = []

    def problem(self, line: int, text: str) -> None:
        """Note what is wrong and what to do about it. Line 0 stands for no line of the file."""
        self._problems.append((line, text))

    def notice(self, line: int, text: str) -> None:
        """Note what is worth a line at start, but stops nothing."""
        self._notices.append((line, text))

    @property
    def notices(self) -> tuple[str, ...]:
        """The notices in the order of their lines, each with its place."""
        return tuple(self._placed(self._notices))

    @property
    def problem_texts(self) -> tuple[str, ...]:
        """The problems in the order of their lines, without their places."""
        return tuple(text for _, text in sorted(self._problems))

    def raise_problems(self) -> None:
        """Raise one ConfigError that lists every problem, if there is any."""
        if not self._problems:
            return
        count = len(self._problems)
        lines = self._placed(self._problems)
        if count > PROBLEMS_SHOWN_MAX:
            lines[PROBLEMS_SHOWN_MAX:] = [f"… and {count - PROBLEMS_SHOWN_MAX} more"]
        head = f"the configuration cannot be used ({count} problem{'s' * (count > 1)}):"
        raise ConfigError("\n".join([head, *lines]))

    def _placed(self, found: list[tuple[int, str]]) -> list[str]:
        """Return texts in the order of their lines, each with its place; line 0 is no line."""
        return [
            f"{self._path}:{line}: {text}" if line else f"{self._path}: {text}"
            for line, text in sorted(found)
        ]

    def section(self, node: Node | None, section: str, where: str) -> Mapping[str, Node]:
        """Return a section's entries after checking its keys; empty where it is missing or null.

        `where` is the section's path in the file, which messages begin with.
        """
        if node is None or node.value is None:
            return {}
        if not isinstance(node.value, Mapping):
            self.problem(node.line, f"{where or 'the file'} must be a mapping of keys to values")
            return {}
        for key, line in node.twice:
            self.problem(line, f"{_path(where, key)} stands twice: keep one of them")
        for key, entry in node.value.items():
            self._check_key(key, entry, section, where)
        return node.value

    def _check_key(self, key: str, entry: Node, section: str, where: str) -> None:
        keys = SECTIONS[section]
        path = _path(where, key)
        if key in keys.read:
            return
        if key in keys.refused or key in keys.ignored:
            text = f"LiteLLM's {path} is not supported by tallygate: "
            value = plain(entry)
            if key in keys.ignored:
                self.notice(entry.line, text + keys.ignored[key])
            elif is_off(value) or value in keys.harmless.get(key, ()):
                self.notice(entry.line, text + "as it is set, that changes nothing")
            else:
                self.problem(entry.line, text + keys.refused[key])
            return
        if section in {"litellm_params", "model_info"} and "cost" in key and _NAME.fullmatch(key):
            self.problem(
                entry.line,
                f"LiteLLM's {path} is not supported by tallygate: write what differs from the "
                "price book as an entry of prices:",
            )
            return
        self.problem(entry.line, f"{path} is not known{_advice(key, section)}")

    def items(
        self, node: Node | None, where: str, items_max: int | None = None
    ) -> tuple[Node, ...]:
        """Return the items of a list; empty where it is missing, null, no list or too long."""
        if node is None or node.value is None:
            return ()
        if not isinstance(node.value, tuple):
            self.problem(node.line, f"{where} must be a list")
            return ()
        if items_max is not None and len(node.value) > items_max:
            self.problem(node.line, f"{where} has more than {items_max} entries")
            return ()
        return node.value

    def text(self, node: Node | None, where: str) -> str | None:
        """Return a text, filled in from the environment where it says so; None where missing."""
        if node is None or node.value is None:
            return None
        if not isinstance(node.value, str):
            self.problem(node.line, f"{where} must be text: put it in quotes")
            return None
        return self._filled(node, node.value, where)

    def typed(self, node: Node | None, wanted: Any, where: str) -> Any:
        """Return a value of a type and within its bounds; None where it is missing or wrong.

        `wanted` is a type as msgspec understands it, `Annotated` with bounds or not.

        A value from the environment is text and is read as the type wanted.
        """
        if node is None or node.value is None:
            return None
        found_before = len(self._problems)
        value, from_environment = self._resolved(node, where)
        if len(self._problems) > found_before:
            return None
        try:
            return msgspec.convert(value, wanted, strict=not from_environment)
        except (msgspec.ValidationError, ValueError, OverflowError):
            self.problem(node.line, f"{where} must be {described(wanted)}")
            return None

    def variable(self, name: str) -> str | None:
        """Return a variable of the environment; one that is empty counts as not set."""
        return self._environment.get(name) or None

    def unset_variable(self, node: Node | None) -> str | None:
        """Return the name of the variable that a text asks for, where it is not set."""
        if node is None or not isinstance(node.value, str):
            return None
        name = node.value.removeprefix(_ENVIRONMENT)
        if name == node.value or not _VARIABLE.fullmatch(name):
            return None
        return None if self.variable(name) else name

    def _resolved(self, node: Node, where: str) -> tuple[Any, bool]:
        if isinstance(node.value, tuple):
            parts = [self._resolved(item, where) for item in node.value]
            return [part for part, _ in parts], False
        if isinstance(node.value, str) and node.value.startswith(_ENVIRONMENT):
            return self._filled(node, node.value, where), True
        return plain(node), False

    def _filled(self, node: Node, value: str, where: str) -> str | None:
        if not value.startswith(_ENVIRONMENT):
            return value
        name = value.removeprefix(_ENVIRONMENT)
        if not _VARIABLE.fullmatch(name):
            self.problem(
                node.line, f"{where}: what follows {_ENVIRONMENT} must be the name of a variable"
            )
            return None
        filled = self.variable(name)
        if filled is None:
            self.problem(
                node.line, f"{where}: the environment variable {name} is not set: export it first"
            )
            return None
        return filled


def _path(where: str, key: str) -> str:
    """Return the path of a key for people. A key that looks like no name may be a secret."""
    shown = key if _NAME.fullmatch(key) else "a key (not shown)"
    return f"{where}.{shown}" if where else shown


def _advice(key: str, section: str) -> str:
    home = other_home(key, section)
    if home is not None:
        return f" here: it belongs into {home}"
    found = nearest(key, SECTIONS[section].names())
    return f": did you mean {found}?" if found else ": remove it (docs/settings.md lists all keys)"
