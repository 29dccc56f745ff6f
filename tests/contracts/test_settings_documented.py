"""docs/settings.md is a subject of tests: every key of the file has its place there."""

import itertools
import re
from pathlib import Path

import msgspec
import pytest

from schemas.config import RESTART_SETTINGS, Settings
from services.runtime.config_keys import SECTIONS, SectionKeys
from services.runtime.config_reader import described

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "settings.md").read_text()


def part_of(section: str) -> str:
    """Return the text under the heading of a section of the file."""
    heading = f"### `{section}`" if section else "### The top of the file"
    assert DOCUMENT.count(heading + "\n") == 1, f"no heading, or two: {heading}"
    after = DOCUMENT.partition(heading + "\n")[2]
    return re.split(r"^##", after, maxsplit=1, flags=re.MULTILINE)[0]


def unsupported_rows(keys: SectionKeys) -> list[str]:
    """Return the table rows of LiteLLM's other keys, those of one reason together."""
    rows = []
    for word, table in (("error", keys.refused), ("notice", keys.ignored)):
        for text, group in itertools.groupby(sorted(table, key=table.__getitem__), table.get):
            rows.append(f"| {', '.join(f'`{key}`' for key in sorted(group))} | {word} | {text} |")
    return rows


def default_of(field: msgspec.structs.FieldInfo) -> str:
    if field.default is None:
        return "none"
    if field.default == ():
        return "`[]`"
    return f"`{field.default}`"


@pytest.mark.parametrize("field", msgspec.structs.fields(Settings), ids=lambda field: field.name)
def test_each_setting_has_its_row_with_default_and_bounds(
    field: msgspec.structs.FieldInfo,
) -> None:
    # Given the settings, when the document is read, then each has its row as the code has it.
    when = "restart" if field.name in RESTART_SETTINGS else "yes"
    row = f"| `{field.name}` | {default_of(field)} | {described(field.type)} | {when} | "
    assert row in part_of("tallygate"), f"missing: {row}"


@pytest.mark.parametrize("section", SECTIONS)
def test_each_key_that_is_read_is_described(section: str) -> None:
    # Given the keys that are read, then each begins a row of its section's part.
    for key in SECTIONS[section].read:
        assert f"\n| `{key}` | " in part_of(section), f"{section}.{key} is not described"


@pytest.mark.parametrize("section", SECTIONS)
def test_each_key_that_is_not_supported_is_said_to_be_so(section: str) -> None:
    # Given LiteLLM's other keys, then the document says of each what becomes of it, and no more.
    rows = unsupported_rows(SECTIONS[section])
    found = re.findall(r"^\|.*\| (?:error|notice) \|.*$", part_of(section), flags=re.MULTILINE)
    assert found == rows, "the rows must be:\n" + "\n".join(rows)


def test_no_key_is_described_that_is_not_known() -> None:
    # Given the described keys, then each is one that is read.
    for section, keys in SECTIONS.items():
        table = re.findall(r"^\| `(\w+)` \| (?!error|notice)", part_of(section), flags=re.MULTILINE)
        assert set(table) == set(keys.read)
