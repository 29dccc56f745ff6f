"""`tallygate login` and `logout`, against a real admin process."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from services.client.cli import main
from tests.support.admin import MASTER_KEY, RunningAdmin
from tests.support.certificates import Certificates
from tests.support.terminal import Terminal
from tests.support.tls_relay import tls_before


class Done(NamedTuple):
    """What a command ended in."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in a folder without a gateway's data, for a user without any variable."""
    for name in ("TALLYGATE_URL", "TALLYGATE_PROFILE", "TALLYGATE_KEY", "TALLYGATE_MASTER_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("LITELLM_MASTER_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: str, typed: str = "") -> Done:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        code = main(list(arguments))
        return Done(code, *capsys.readouterr())

    return run_command


def test_who_has_signed_in_need_not_say_where_and_who_again(
    admin: RunningAdmin, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = str(admin.generate(key_alias="ana", user_id="u-login")["key"])
    file = tmp_path / "config" / "tallygate" / "profiles.json"
    # Given a wrong key, a wrong address or none, when somebody signs in, then that is said, and
    # nothing is kept.
    wrong = run("login", admin.url, "--key-file", "-", typed="sk-" + "x" * 43)
    assert (wrong.code, "virtual key" in wrong.err) == (77, True), wrong.err
    assert run("login", "http://127.0.0.1:9", "--key-file", "-", typed=key).code == 69
    assert run("login", admin.url, "--key-file", "-").code == 77
    assert run("login", admin.url).code == 2
    assert run("login", "--key-file", "-", typed=key).code == 2
    assert not file.exists()
    # When the master key and a virtual key sign in, then it says as whom, and tells no key.
    told = run("login", admin.url + "/", "--key-file", "-", typed=MASTER_KEY + "\n")
    assert told.code == 0, told.err
    assert f"signed in to {admin.url} as the master key (profile default)" in told.err
    told = run("login", admin.url, "--profile", "ana", "--key-file", "-", typed=key)
    assert "as ana (profile ana)" in told.err, told.err
    listed = run("login", "--list")
    assert [line.split()[0] for line in listed.out.splitlines()[-3:] if line.strip()] == [
        "ana",
        "default",
    ]
    for secret in (key, MASTER_KEY):
        assert secret in file.read_text()
        assert secret not in listed.out + told.err
    shown = json.loads(run("login", "--list", "--json").out)
    assert shown[0]["signed_in_as"] == "ana"
    # Then commands ask that gateway with that key, whatever key the environment has.
    monkeypatch.setenv("LITELLM_MASTER_KEY", "sk-of-another-gateway")
    assert run("keys", "list").code == 0
    refused = run("users", "list", "--profile", "ana")
    assert refused.code == 77
    assert "ana" in refused.err
    monkeypatch.setenv("TALLYGATE_PROFILE", "ana")
    assert run("users", "list").code == 77
    # Then another address gets no profile's key.
    assert run("keys", "list", "--url", admin.url).code == 77
    # Then Claude Code is set up with the virtual key of the profile, and never with a master key.
    assert run("claude-code", "--write", "--no-check").code == 0
    assert key in (tmp_path / "claude" / "settings.json").read_text()
    none = run("claude-code", "--profile", "default", "--no-check")
    assert (none.code, MASTER_KEY in none.out) == (77, False)
    # When it signs out, then the gateway and the key are forgotten; the other profile stays.
    assert run("logout").code == 0
    assert key not in file.read_text()
    assert run("keys", "list").code == 77
    monkeypatch.delenv("TALLYGATE_PROFILE")
    assert run("keys", "list").code == 0
    assert run("logout", "--all").code == 0
    assert MASTER_KEY not in file.read_text()
    assert run("logout").code == 77


def test_a_key_that_is_typed_is_not_shown(admin: RunningAdmin, tmp_path: Path) -> None:
    # Given somebody at a terminal, when the gateway's address and the key are asked for and typed
    key = str(admin.generate(key_alias="eve")["key"])
    environment = {"PATH": os.environ["PATH"], "XDG_CONFIG_HOME": str(tmp_path)}
    terminal = Terminal("login", "--profile", "typed", **environment)
    terminal.until("Gateway [http://127.0.0.1:4000]: ")
    terminal.type(admin.url + "\n")
    terminal.until("Key: ")
    terminal.type(key + "\n")
    # Then it is signed in, and the key was at no time on the screen.
    shown = terminal.until("signed in to", "as eve (profile typed)")
    assert terminal.exit_code() == 0
    assert key not in shown
    assert key in (tmp_path / "tallygate" / "profiles.json").read_text()


def test_a_gateway_with_a_certificate_of_the_companys_own(
    admin: RunningAdmin, run: Run, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    own = ("--key-file", "-", "--ca-file", str(certificates.ca_file))
    # Given a gateway behind TLS, when its CA is not known, then that is said, and no key is sent.
    with tls_before(admin.port, certificates.good()) as url:
        refused = run("login", url, "--key-file", "-", typed=MASTER_KEY)
        assert (refused.code, "--ca-file" in refused.err) == (69, True), refused.err
        assert run("login", url, *own[:3], str(tmp_path), typed=MASTER_KEY).code == 1
        # When the CA is named, then the profile keeps it in mind, and commands go there.
        told = run("login", url, *own, typed=MASTER_KEY)
        assert (told.code, told.err.count("unencrypted")) == (0, 0), told.err
        assert run("keys", "list").code == 0
        assert run("keys", "list", "--url", url).code == 77
    # Given another one's certificate, though of that CA, then it is not trusted.
    with tls_before(admin.port, certificates.wrong_host()) as url:
        assert run("login", url, *own, typed=MASTER_KEY).code == 69


def test_a_key_that_is_blocked_signs_in_with_a_word_about_it(admin: RunningAdmin, run: Run) -> None:
    # Given a blocked key, when it signs in, then it is told what the key is.
    key = str(admin.generate(key_alias="bob", blocked=True)["key"])
    told = run("login", admin.url, "--key-file", "-", typed=key)
    assert (told.code, "this key is revoked" in told.err) == (0, True), told.err
