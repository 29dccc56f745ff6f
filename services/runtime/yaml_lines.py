"""YAML whose every value knows its line, and that no file can blow up.

PyYAML composes the document; its constructors, which make objects, are not used but for plain
scalars. Aliases and merge keys (`<<`) are followed; every node that they bring in counts anew, so
that a file of nested aliases meets NODES_MAX before it meets the memory.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

__all__ = [
    "DEPTH_MAX",
    "FILE_BYTES_MAX",
    "NODES_MAX",
    "Node",
    "Scalar",
    "Value",
    "YamlProblem",
    "parse_yaml",
]

FILE_BYTES_MAX = 1024 * 1024
"""A longer file is refused before it is parsed."""
NODES_MAX = 50_000
"""A document with more keys and values than this, aliases followed, is refused."""
DEPTH_MAX = 32
"""A document nested deeper than this is refused."""

Scalar: TypeAlias = bool | int | float | str | None
Value: TypeAlias = "Scalar | tuple[Node, ...] | Mapping[str, Node]"

_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
_TEXT_TAGS = frozenset({_TAG + "str", _TAG + "timestamp", _TAG + "value", _MERGE})
_QUOTED = re.compile(r"'(?!<[a-z ]+>')[^']{2,}'|\"[^\"]{2,}\"")


class YamlProblem(Exception):
    """The text is no YAML that can be read. `line` counts from 1; the message quotes no value."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


@dataclass(frozen=True, slots=True)
class Node:
    """A value and the line, from 1, on which it stands (that of its key, where it has one).

    `text` is a scalar as it is written, for amounts of money: a float would lose digits. `twice`
    lists the keys that stand a second time in a mapping, with their lines. The `repr`
    leaves the value out, since it may be a secret.
    """

    line: int
    value: Value
    twice: tuple[tuple[str, int], ...] = ()
    text: str = ""

    def __repr__(self) -> str:
        return f"Node(line={self.line}, {type(self.value).__name__})"


class _BoundedLoader(yaml.SafeLoader):
    """Composes no deeper and no more than the limits; PyYAML itself has none."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose one node, counting it."""
        self.depth += 1
        self.nodes += 1
        line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
        if self.depth > DEPTH_MAX:
            raise YamlProblem(line, f"nested deeper than {DEPTH_MAX} levels: make it flatter")
        if self.nodes > NODES_MAX:
            raise YamlProblem(line, _too_many())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Reader:
    """Turns PyYAML's nodes into ours. Counts what aliases multiply."""

    def __init__(self, loader: _BoundedLoader) -> None:
        self._loader = loader
        self._nodes = 0

    def read(self, node: yaml.Node, line: int, depth: int = 0) -> Node:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise YamlProblem(line, _too_many())
        if depth > DEPTH_MAX:
            raise YamlProblem(line, f"nested deeper than {DEPTH_MAX} levels, or an alias of itself")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, line, depth)
        if isinstance(node, yaml.SequenceNode):
            if node.tag != _TAG + "seq":
                raise YamlProblem(line, "a list with a tag: write a plain list")
            items = (self.read(item, item.start_mark.line + 1, depth + 1) for item in node.value)
            return Node(line, tuple(items))
        assert isinstance(node, yaml.ScalarNode), "YAML has three kinds of nodes"
        return Node(line, self._scalar(node, line), text=str(node.value))

    def _mapping(self, node: yaml.MappingNode, line: int, depth: int) -> Node:
        if node.tag != _TAG + "map":
            raise YamlProblem(line, "a mapping with a tag: write a plain mapping")
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        twice: list[tuple[str, int]] = []
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                # Keys that stand here win over merged ones, and earlier merged ones over later.
                merged = {**self._merged(value_node, key_line, depth), **merged}
                continue
            key = self._key(key_node, key_line)
            if key in own:
                twice.append((key, key_line))
                continue
            own[key] = self.read(value_node, key_line, depth + 1)
        return Node(line, {**merged, **own}, tuple(twice))

    def _merged(self, node: yaml.Node, line: int, depth: int) -> Mapping[str, Node]:
        value = self.read(node, line, depth + 1).value
        parts = value if isinstance(value, tuple) else (Node(line, value),)
        merged: dict[str, Node] = {}
        for part in parts:
            if not isinstance(part.value, Mapping):
                raise YamlProblem(line, "the merge key << takes a mapping or a list of mappings")
            merged = {**part.value, **merged}
        return merged

    def _key(self, node: yaml.Node, line: int) -> str:
        if isinstance(node, yaml.ScalarNode):
            key = self._scalar(node, line)
            if isinstance(key, str):
                return key
        raise YamlProblem(line, "a key that is no text: put it in quotes")

    def _scalar(self, node: yaml.ScalarNode, line: int) -> Scalar:
        if node.tag in _TEXT_TAGS:
            return str(node.value)
        construct = {
            _TAG + "null": self._loader.construct_yaml_null,
            _TAG + "bool": self._loader.construct_yaml_bool,
            _TAG + "int": self._loader.construct_yaml_int,
            _TAG + "float": self._loader.construct_yaml_float,
        }.get(node.tag)
        if construct is None:
            raise YamlProblem(line, "a value with a tag (!…): write it plainly")
        try:
            value: Scalar = construct(node)
        except (ValueError, KeyError, IndexError, OverflowError):
            # A number that is none (`0b_`, `!!int x`), or one of thousands of digits.
            raise YamlProblem(line, f"no {node.tag.removeprefix(_TAG)} can be read here") from None
        return value


def _too_many() -> str:
    return f"more than {NODES_MAX} keys and values (aliases count each time): make it smaller"


def parse_yaml(content: bytes) -> Node:
    """Return the document of a file, at most FILE_BYTES_MAX long; an empty one is a null.

    Raises YamlProblem, whose message quotes none of the text.
    """
    if len(content) > FILE_BYTES_MAX:
        raise YamlProblem(1, f"longer than {FILE_BYTES_MAX} bytes: this is no configuration")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise YamlProblem(line, "not UTF-8: save the file in that encoding") from None
    loader = None
    try:
        loader = _BoundedLoader(text)
        root = loader.get_single_node()
        if root is None:
            return Node(1, None)
        return _Reader(loader).read(root, root.start_mark.line + 1)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlProblem(line, "a control character: remove it") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = _QUOTED.sub("'…'", error.problem or error.context or "not understood")
        raise YamlProblem(mark.line + 1 if mark else 1, f"no valid YAML: {problem}") from None
    finally:
        if loader is not None:
            loader.dispose()
