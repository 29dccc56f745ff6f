"""Tab in a shell: what is offered, and that a real bash offers it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services import cli
from services.client.profiles import Profile, read_profiles
from services.commands.arguments import COMMANDS, SHELLS
from services.commands.completion import completer

BASH = """
source <("$1" completion bash)
COMP_WORDS=("$1" "${@:2}") COMP_CWORD=$(($# - 1))
_tallygate_completion "$1"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(*words: str) -> list[str]:
    """Return what Tab offers for the last word."""
    found = completer("bash").get_completions(list(words[:-1]), words[-1])
    return [str(item.value) for item in found]


def test_every_command_is_offered() -> None:
    # Given nothing but the program's name, when Tab is pressed, then all of its commands are there.
    known = {name.partition(" ")[0] for name in COMMANDS} | set(cli._CLIENT_COMMANDS)
    assert set(offered("")) == known
    assert "retry-dead-letters" in offered("ledger", "")
    assert offered("prices", "") == ["check", "list", "set", "unset"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("bud",), ["budgets"]),
        (("budgets", "un"), ["unset"]),
        (("budgets", "set", "t"), ["team"]),
        (("keys", "list", "--sta"), ["--status"]),
        (("keys", "list", "--status", "a"), ["active"]),
        (("serve", "--wor"), ["--workers"]),
        (("ledger", "--role", "w"), ["writer"]),
        (("proxy", "--f"), []),
        (("completion", "f"), ["fish"]),
    ],
)
def test_what_can_follow_is_offered(words: tuple[str, ...], expected: list[str]) -> None:
    # Given the beginning of a word, when Tab is pressed, then what can stand there is offered.
    assert offered(*words) == expected


def test_profiles_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given two profiles, when one is begun, then it is offered; a broken file of them offers none.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    profiles = read_profiles(os.environ)
    for name in ("work", "home"):
        profiles.all[name] = Profile(url="u", key="k", is_master_key=False, signed_in_as="a")
    profiles.write()
    assert offered("spend", "--profile", "w") == ["work"]
    assert offered("logout", "--profile", "") == ["home", "work"]
    profiles.path.write_text("{")
    assert offered("spend", "--profile", "w") == []


def test_a_real_bash_completes() -> None:
    # Given bash with the script, when the second word is begun, then bash has its completions.
    program = Path(sys.executable).with_name("tallygate")
    command = ["bash", "--norc", "-c", BASH, "bash", str(program), "keys", "li"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("list\n", "")


def test_every_shell_has_a_script(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given each shell, when its script is printed, then it asks this program; others are refused.
    for shell in SHELLS:
        assert cli.run(["completion", shell]) == 0
        assert f"_TALLYGATE_COMPLETE={shell}_complete" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        cli.run(["completion", "tcsh"])
    assert ended.value.code == 2
    # And a question without its words, or of no shell, is none.
    for instruction in ("bash_complete", "tcsh_complete"):
        monkeypatch.setenv("_TALLYGATE_COMPLETE", instruction)
        assert cli.run(["keys", "list"]) == 2
