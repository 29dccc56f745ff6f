"""A client that cannot be had, or is not the pinned one, fails the tests that need it."""

from pathlib import Path

import pytest

from tests.support.claude_code import CLAUDE_CODE_VERSION, ClaudeCodeUnavailable, claude_code_path


def test_missing_client_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # given the path of a program that is not there
    monkeypatch.setenv("TALLYGATE_CLAUDE_CODE", str(tmp_path / "claude"))
    # then asking for it fails, and names it
    with pytest.raises(ClaudeCodeUnavailable, match="does not run"):
        claude_code_path.__wrapped__()


@pytest.mark.parametrize("version", ["2.1.1", CLAUDE_CODE_VERSION])
def test_only_the_pinned_version_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str
) -> None:
    # given a program that tells a version
    program = tmp_path / "claude"
    program.write_text(f"#!/bin/sh\necho '{version} (Claude Code)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("TALLYGATE_CLAUDE_CODE", str(program))
    # then it is taken if that is the pinned one
    if version == CLAUDE_CODE_VERSION:
        assert claude_code_path.__wrapped__() == program
    else:
        with pytest.raises(ClaudeCodeUnavailable, match=CLAUDE_CODE_VERSION):
            claude_code_path.__wrapped__()


def test_missing_npm_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # given no client, and no npm to install it with
    monkeypatch.delenv("TALLYGATE_CLAUDE_CODE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("tests.support.claude_code._TOOLS", tmp_path / "tools")
    # then the error says what to do
    with pytest.raises(ClaudeCodeUnavailable, match="npm is not on the PATH"):
        claude_code_path.__wrapped__()
