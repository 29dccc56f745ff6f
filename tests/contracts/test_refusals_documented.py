"""Each refusal in docs/claude-code.md is brought about with the real client, and no other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import schemas.errors
from schemas.errors import ApiError
from tests.support.provocations import PROVOCATIONS, SIGN_INS
from tests.support.refusals import documented_refusals

PROXY = Path(__file__).resolve().parents[2] / "services" / "proxy"
REPLACED = {
    "x-api-key",
    "credit balance is too low",
    "organization has been disabled",
    "api key authentication is disabled",
    "not a valid api key for this workspace",
    "prompt is too long",
    "invalid model name",
    "oauth token has expired",
}
"""Words of an error's message for which Claude Code 2.1.330 shows a text of its own instead."""


def messages_in(source: Path) -> Iterator[str]:
    """Yield the texts in the calls that make errors, and in the module's constants."""
    errors = {
        name
        for name, found in vars(schemas.errors).items()
        if isinstance(found, type) and issubclass(found, ApiError)
    }
    for node in ast.walk(ast.parse(source.read_text())):
        is_error = isinstance(node, ast.Call) and getattr(node.func, "id", "") in errors
        if is_error or (isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


@pytest.mark.parametrize("source", sorted(PROXY.glob("*.py")), ids=lambda source: source.stem)
def test_no_message_holds_words_that_claude_code_replaces(source: Path) -> None:
    # Given the messages of all refusals, then none has a word for which the user would read
    # something else, such as that there is no login.
    found = [text for text in messages_in(source) for word in REPLACED if word in text.lower()]

    assert found == []


def test_every_row_of_the_table_is_provoked_with_the_real_client() -> None:
    # Given the table, when it is compared with what the tests provoke, then none is left out but
    # what the client never sends, and none is tested that the table does not have.
    rows = documented_refusals()
    provoked = {each.row for each in PROVOCATIONS}

    assert provoked == {name for name, row in rows.items() if row.comes_from_the_client}


def test_a_way_to_sign_in_that_the_table_tells_apart_is_tested_by_itself() -> None:
    # Given a row that says something else for one way to sign in, then there is a case with that
    # way, and one with another.
    for name, row in documented_refusals().items():
        told_apart = {way for way in SIGN_INS.values() if way in row.shown + row.requests}
        tested = {SIGN_INS[each.variable] for each in PROVOCATIONS if each.row == name}
        assert told_apart <= tested, name
        assert not told_apart or tested - told_apart, name
