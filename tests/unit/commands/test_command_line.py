"""The command line: which command is meant, what is wrong with an option, what each help says."""

import argparse
import re
from pathlib import Path

import pytest

from schemas.errors import ConfigError
from services import cli
from services.commands.arguments import BOOKS_COMMANDS, COMMANDS, config_path, read_arguments


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CONFIG", "DATA", "NATS_URL", "ADMIN_URL"):
        monkeypatch.delenv(f"TALLYGATE_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, argparse.Namespace]]:
    """The commands that were run, with their values, instead of running them."""
    calls: list[tuple[str, argparse.Namespace]] = []

    def function(command: str) -> object:
        def run(values: argparse.Namespace) -> int:
            calls.append((command, values))
            return 0

        return run

    monkeypatch.setattr(cli, "_function", function)
    return calls


def test_an_option_without_a_command_is_short_for_serve(
    called: list[tuple[str, argparse.Namespace]],
) -> None:
    # Given both ways to write it, then both are the same command with the same values.
    assert cli.run(["--config", "a.yaml", "--port", "5"]) == 0
    assert cli.run(["serve", "--config", "a.yaml", "--port", "5"]) == 0
    assert called[0] == called[1]
    command, values = called[0]
    assert (command, values.config, values.port) == ("serve", Path("a.yaml"), 5)


def test_serve_has_the_documented_defaults() -> None:
    values = read_arguments("serve", [])
    assert vars(values) == {
        "config": None,
        "data": Path("data"),
        "host": "127.0.0.1",
        "port": 4000,
        "workers": 1,
        "metrics": None,
    }


def test_the_environment_names_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYGATE_CONFIG", "/etc/c.yaml")
    monkeypatch.setenv("TALLYGATE_DATA", "/var/d")
    monkeypatch.setenv("TALLYGATE_NATS_URL", "nats://n:4222")
    monkeypatch.setenv("TALLYGATE_ADMIN_URL", "http://a:4001")
    values = read_arguments("proxy", ["--worker", "3"])
    assert (values.config, values.data) == (Path("/etc/c.yaml"), Path("/var/d"))
    assert (values.nats_url, values.admin_url) == ("nats://n:4222", "http://a:4001")
    assert (values.worker, values.fd) == (3, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["srve"], "there is no command 'srve'. Did you mean serve?"),
        (["key"], "there is no command 'key'. Did you mean keys?"),
        (["zzz"], "there is no command 'zzz'.\n"),
        (["--prot", "1"], "there is no option '--prot'. Did you mean --port?"),
        (["--prot=1"], "there is no option '--prot'. Did you mean --port?"),
        (["serve", "--worker", "2"], "there is no option '--worker'. Did you mean --workers?"),
        (["serve", "--port", "70000"], "'70000' is no port: give a number from 0 to 65535"),
        (["serve", "--workers", "0"], "'0' is no number of workers: give a number from 1 to 64"),
        (["serve", "--data", ""], "--data: the path is empty: is a variable not set?"),
        (["serve", "--config", ""], "--config: the path is empty: is a variable not set?"),
        (["ledger"], "--role"),
        (["ledger", "--role", "boss"], "'writer', 'reader'"),
    ],
)
def test_a_wrong_word_is_named_with_the_nearest_right_one(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a command line with a mistake, then the code is 2 and the message helps, in few lines.
    try:
        code = cli.run(arguments)
    except SystemExit as ended:
        code = int(str(ended.code))
    written = capsys.readouterr()
    assert code == 2
    assert said in written.err
    assert written.err.count("\n") == 2
    assert written.out == ""


def test_help_names_every_command_and_each_has_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    # Given --help, then every command is described, and so is each of its options; those that
    # the supervisor uses among its own are not.
    assert cli.run(["--help"]) == 0
    text = capsys.readouterr().out
    for name in [*COMMANDS, "keys", "sql"]:
        assert re.search(rf"\n  {name}[ \n]", text)
    for command in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            read_arguments(command, ["--help"])
        assert ended.value.code == 0
        text = capsys.readouterr().out
        own = {
            "demo": "--folder DIR",
            "completion": "{bash,zsh,fish}",
            **dict.fromkeys(BOOKS_COMMANDS, "--data DIR"),
        }
        assert own.get(command, "--config FILE") in text
        assert "--fd" not in text
        assert max(map(len, text.splitlines())) <= 100


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 0
    assert "Usage: tallygate COMMAND" in capsys.readouterr().out


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("tallygate ")


def test_without_a_configuration_it_is_said_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a folder without config.yaml, then the message names the option; given one with it,
    # then that is taken.
    assert cli.run(["serve"]) == 78
    assert "--config FILE" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        config_path(None)
    (tmp_path / "config.yaml").write_text("")
    assert config_path(None) == Path("config.yaml")


def test_a_service_without_a_nats_server_says_how_to_name_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(
        "model_list: [{model_name: m, litellm_params: {model: anthropic/m}}]\n"
    )
    assert cli.run(["ledger", "--role", "reader"]) == 78
    written = capsys.readouterr().err
    assert "TALLYGATE_NATS_URL" in written
    assert "Traceback" not in written


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nats-url", "http://127.0.0.1:4222"], "must be a URL that begins with nats:// or tls:"),
        (["--nats-url", "user:hunter2@127.0.0.1"], "must be a URL that begins with nats:// or tls"),
        (["--nats-url", "nats://n", "--admin-url", "a:4001"], "begins with http:// or https://"),
    ],
)
def test_a_mistyped_address_is_said_at_start_and_not_quoted(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given an address of another part that is none, then the process ends at once and says what
    # one looks like, without repeating what may be a password.
    (tmp_path / "config.yaml").write_text("")
    assert cli.run(["proxy", *arguments]) == 78
    written = capsys.readouterr().err
    assert said in written
    assert "hunter2" not in written
