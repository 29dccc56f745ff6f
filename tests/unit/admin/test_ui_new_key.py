"""The lines of a new key name a model where Claude Code's own would not be found."""

import pytest

from services.admin.ui.new_key import model_to_set


@pytest.mark.parametrize(
    ("names", "are_own", "expected"),
    [
        # The example's configuration: all of the gateway's names, the first one its own.
        (["anthropic-claude", "claude-3-5-haiku-20241022"], False, "anthropic-claude"),
        (["anthropic-claude"], False, "anthropic-claude"),
        # Claude Code finds its own among these.
        (["claude-opus-5", "claude-sonnet-5"], False, None),
        (["anthropic-claude", "claude-opus-5", "claude-*"], False, None),
        (["claude-*"], False, None),
        ([], False, None),
        # A key that may use these alone.
        (["claude-haiku-5", "claude-sonnet-5"], True, "claude-haiku-5"),
        (["claude-*"], True, None),
    ],
)
def test_model_is_named_where_the_clients_own_would_not_be_found(
    names: list[str], *, are_own: bool, expected: str | None
) -> None:
    # Given the names that a key may use, when the lines for Claude Code are made, then they name
    # a model where the client's own is not likely to be one of them.
    assert model_to_set(names, are_own=are_own) == expected
