"""YAML with lines: what it reads, and the limits that it keeps."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from services.runtime.config_reader import plain
from services.runtime.yaml_lines import DEPTH_MAX, NODES_MAX, YamlProblem, parse_yaml


def problem(content: bytes) -> YamlProblem:
    with pytest.raises(YamlProblem) as raised:
        parse_yaml(content)
    return raised.value


def test_every_value_knows_the_line_of_its_key() -> None:
    # Given a tree over several lines, then each node has the line on which its key stands.
    root = parse_yaml(
        b"a: 1\nb:\n  c:\n    - x\n    - d: |\n        long\n        text\n      e: 2\n"
    )
    assert isinstance(root.value, dict)
    b = root.value["b"].value
    assert isinstance(b, dict)
    items = b["c"].value
    assert isinstance(items, tuple)
    assert (root.value["b"].line, b["c"].line, [item.line for item in items]) == (2, 3, [4, 5])
    assert isinstance(items[1].value, dict)
    assert [(key, node.line) for key, node in items[1].value.items()] == [("d", 5), ("e", 8)]


def test_a_key_that_stands_twice_is_kept_with_its_line() -> None:
    # Given a repeated key, then the first value holds and the second one's line is listed.
    root = parse_yaml(b"a: 1\nb: 2\na: 3\n")
    assert plain(root) == {"a": 1, "b": 2}
    assert root.twice == (("a", 3),)


def test_an_alias_bomb_meets_the_limit_and_not_the_memory() -> None:
    # Given aliases that multiply tenfold nine times, then it is refused.
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert f"more than {NODES_MAX}" in problem("\n".join(lines).encode()).message


def test_a_bomb_of_merge_keys_meets_the_limit() -> None:
    # Given merges that multiply, then it is refused too.
    lines = ["a0: &a0 {k: [x, x, x, x, x, x, x, x, x, x]}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 8)]
    assert f"more than {NODES_MAX}" in problem("\n".join(lines).encode()).message


@pytest.mark.parametrize("mark", ["[", "- ", "{a: ", "? "])
def test_deep_nesting_meets_the_limit_and_not_the_stack(mark: str) -> None:
    # Given nesting far beyond the limit, then it is refused.
    assert f"deeper than {DEPTH_MAX}" in problem((mark * 100_000).encode()).message


def test_an_alias_of_itself_is_refused() -> None:
    # Given a list that holds itself, then it is refused.
    assert "alias of itself" in problem(b"a: &a [*a]").message


def test_merged_keys_come_before_own_and_earlier_merges_win() -> None:
    # Given two merged mappings and own keys, then it is as PyYAML's safe_load has it.
    text = b"x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {c: 3, <<: [*x, *y]}\n"
    assert plain(parse_yaml(text)) == yaml.safe_load(text)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)
)


@settings(deadline=None)  # the machine may be busy
@given(
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4).map(tuple),
            st.dictionaries(st.text(max_size=8), inner, max_size=4),
        ),
        max_leaves=20,
    )
)
def test_what_was_written_is_read(tree: object) -> None:
    # Given any tree of plain values, when it is written and read, then it is the same.
    assert plain(parse_yaml(yaml.safe_dump(_lists(tree)).encode())) == tree


def _lists(tree: object) -> object:
    if isinstance(tree, dict):
        return {key: _lists(value) for key, value in tree.items()}
    return [_lists(item) for item in tree] if isinstance(tree, tuple) else tree
