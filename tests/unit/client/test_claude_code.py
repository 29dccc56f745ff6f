"""`tallygate claude-code`: which variables it sets, and what becomes of a settings file."""

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.client.claude_settings import read_claude_settings
from services.client.claude_variables import (
    Mode,
    Setup,
    spoiling_variables,
    variables_without_gateway,
    wanted_variables,
)
from services.client.cli import main
from services.client.gateway import ClientError

KEY, OLD_KEY = "sk-" + "n" * 43, "sk-" + "o" * 43
URL = "https://gateway.example"
ORIGINAL = '{"n": 1.50, "big": 1e400, "env": {"A": "\\u00e9"}, "hooks": {}}'
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.fixture
def write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Run the command on a settings file; return its exit code and what it told."""
    for name in ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY", "ANTHROPIC_CUSTOM_HEADERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TALLYGATE_KEY", KEY)
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "of claude"))

    def run(*arguments: str) -> tuple[int, str]:
        code = main(["claude-code", "--no-check", "--url", URL, "--write", *arguments])
        captured = capsys.readouterr()
        assert captured.out == ""
        return code, captured.err

    return run


def test_a_subscription_gets_the_key_in_a_header_beside_those_of_others() -> None:
    # Given headers of others, an older virtual key in a header and one as a token
    before = {
        "ANTHROPIC_CUSTOM_HEADERS": f"X-Team: a: b\nX-LiteLLM-API-Key: Bearer {OLD_KEY}\nx-cost: 4",
        "ANTHROPIC_AUTH_TOKEN": OLD_KEY,
        "ANTHROPIC_API_KEY": "sk-ant-api03-own",
    }
    # When a subscription is set up, then the new key replaces the old ones, and the rest stays.
    wanted = wanted_variables(Setup(URL, KEY, "subscription", "opus"), before)
    assert wanted == {
        "ANTHROPIC_BASE_URL": URL,
        "ANTHROPIC_AUTH_TOKEN": None,
        "ANTHROPIC_CUSTOM_HEADERS": f"X-Team: a: b\nx-cost: 4\nx-litellm-api-key: Bearer {KEY}",
        "ANTHROPIC_MODEL": "opus",
    }
    # And when the company's key shall pay, then the header of the gateway, which would win, goes.
    wanted = wanted_variables(Setup(URL, KEY, "api-key"), before)
    assert wanted == {
        "ANTHROPIC_BASE_URL": URL,
        "ANTHROPIC_AUTH_TOKEN": KEY,
        "ANTHROPIC_CUSTOM_HEADERS": "X-Team: a: b\nx-cost: 4",
    }
    # And a CA of the company's is told of, unless there is another file of them already.
    with_ca = Setup(URL, KEY, "subscription", ca_file="/ca.pem")
    assert wanted_variables(with_ca, {})["NODE_EXTRA_CA_CERTS"] == "/ca.pem"
    own = {"NODE_EXTRA_CA_CERTS": "/own.pem"}
    assert wanted_variables(with_ca, own)["NODE_EXTRA_CA_CERTS"] == "/own.pem"
    # And a virtual key in the shell is one that a settings file cannot take away.
    assert spoiling_variables("subscription", before) == ["ANTHROPIC_AUTH_TOKEN"]
    assert spoiling_variables("api-key", before) == []


def test_without_the_gateway_all_of_it_goes_and_nothing_else() -> None:
    # Given a setup beside what is a developer's own, when the gateway is taken out, then it goes.
    own = {"ANTHROPIC_CUSTOM_HEADERS": "X-Team: a", "ANTHROPIC_API_KEY": "sk-ant-api03-own"}
    modes: tuple[Mode, ...] = ("subscription", "api-key")
    for mode in modes:
        setup = Setup(URL, KEY, mode, "anthropic-claude")
        after = own | {
            name: value for name, value in wanted_variables(setup, own).items() if value is not None
        }
        removed = variables_without_gateway(after)
        assert {
            name: value for name, value in (after | removed).items() if value is not None
        } == own
    # A model that Claude Code knows itself stays.
    assert variables_without_gateway({"ANTHROPIC_MODEL": "claude-opus-5-5"}) == {}


# The machine may be busy.
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(), JSON_VALUES), st.dictionaries(st.text(), JSON_VALUES))
def test_all_else_in_a_settings_file_stays(
    tmp_path_factory: pytest.TempPathFactory, parts: dict[str, Any], variables: dict[str, Any]
) -> None:
    # Given any settings, when a variable is set and another is taken away
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(parts | {"env": variables | {"GONE": "1"}}))
    read_claude_settings(path).write({"SET": "é\n", "GONE": None})
    # Then these are, and all else is what it was, in its order.
    found = json.loads(path.read_text())
    assert found == parts | {"env": {**variables, "SET": "é\n"}}
    assert [name for name in found if name in parts] == list(parts)


def test_a_settings_file_keeps_its_place_its_mode_and_its_numbers(
    write: Any, tmp_path: Path
) -> None:
    # Given a settings file that is a link into another folder, with a mode of its own
    real = tmp_path / "dotfiles" / "settings.json"
    real.parent.mkdir()
    real.write_text(ORIGINAL)
    real.chmod(0o640)
    link = tmp_path / "settings.json"
    link.symlink_to(real)
    # When it is written into
    code, told = write(str(link))
    # Then the link stays, the mode stays, numbers and texts stay as they were written.
    assert code == 0, told
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    for words in ('"n": 1.50', '"big": 1e400', '"A": "\\u00e9"', '"hooks": {}', URL):
        assert words in real.read_text()
    # Then others may read it, which is told; nothing else is in the folder; the key is not told.
    assert "others may read" in told
    assert [each.name for each in real.parent.iterdir()] == ["settings.json"]
    assert KEY not in told
    # When it is written again, then there is nothing to do.
    before = real.stat().st_mtime_ns
    assert "nothing to change" in write(str(link))[1]
    assert real.stat().st_mtime_ns == before
    # When it is taken out, then the file is as it was, but for spaces.
    assert main(["claude-code", "--remove", str(link)]) == 0
    assert re.sub(r"\s", "", real.read_text()) == re.sub(r"\s", "", ORIGINAL)
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert main(["claude-code", "--remove", "--write"]) == 2


def test_a_new_settings_file_is_its_owners_alone(write: Any, tmp_path: Path) -> None:
    # Given no settings at all, when they are written, then in Claude Code's folder, for the owner.
    code, told = write()
    path = tmp_path / "of claude" / "settings.json"
    assert (code, str(path) in told) == (0, True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    header = f"x-litellm-api-key: Bearer {KEY}"
    assert json.loads(path.read_text()) == {
        "env": {"ANTHROPIC_BASE_URL": URL, "ANTHROPIC_CUSTOM_HEADERS": header}
    }


@pytest.mark.parametrize(
    "content", [b"{'a': 1}", b"[]", b'{"env": []}', b'{"env": {"A": }}', b"\xff", b" " * 1_100_000]
)
def test_a_file_that_is_no_settings_is_left_alone(
    write: Any, tmp_path: Path, content: bytes
) -> None:
    # Given a file that Claude Code could not have read, when it is named, then it stays, and why.
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    code, told = write(str(path))
    assert code == 1
    assert str(path) in told
    assert path.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir()] == ["settings.json"]


def test_a_file_that_changes_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    # Given settings that were read, when Claude Code writes them before we do, then its word stays.
    path = tmp_path / "settings.json"
    path.write_text("{}")
    read = read_claude_settings(path)
    path.write_text('{"theme": "dark"}')
    with pytest.raises(ClientError, match="changed by another"):
        read.write({"A": "1"})
    assert path.read_text() == '{"theme": "dark"}'
    assert [each.name for each in tmp_path.iterdir()] == ["settings.json"]


@pytest.mark.parametrize("given", ["", "sk-ant-oat01-own", "sk-a b", "sk-" + "x" * 600])
def test_what_is_no_virtual_key_is_not_written(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    # Given no virtual key, when it is to be written, then that is said, and nothing is written.
    monkeypatch.setenv("TALLYGATE_KEY", given)
    code, told = write()
    assert code == 77
    assert "virtual key" in told
    assert not (tmp_path / "of claude").exists()
