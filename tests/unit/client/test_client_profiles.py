"""Which gateway a command asks, and with which key: options, environment and profiles."""

import json
import stat
from pathlib import Path

import pytest

from services.client.cli import main
from services.client.gateway import ClientError
from services.client.profiles import Profile, check_profile_name, find_address, read_profiles

WORK = Profile(url="https://work.example", key="sk-work", is_master_key=False, signed_in_as="ana")
HOME = Profile(url="https://home.example", key="sk-home", is_master_key=True, signed_in_as="me")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which two profiles were written, `default` and `home`."""
    variables = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    profiles = read_profiles(variables)
    profiles.all.update({"default": WORK, "home": HOME})
    profiles.write()
    return variables


@pytest.mark.parametrize(
    ("url", "profile", "variables", "expected"),
    [
        ("http://a", None, {"TALLYGATE_PROFILE": "home"}, ("http://a", None)),
        (None, "home", {"TALLYGATE_URL": "http://b"}, (HOME.url, HOME)),
        (None, None, {"TALLYGATE_PROFILE": "home", "TALLYGATE_URL": "http://b"}, (HOME.url, HOME)),
        (None, None, {"TALLYGATE_URL": "http://b"}, ("http://b", None)),
        (None, None, {}, (WORK.url, WORK)),
    ],
)
def test_the_nearest_word_says_which_gateway(
    environment: dict[str, str],
    url: str | None,
    profile: str | None,
    variables: dict[str, str],
    expected: tuple[str, Profile | None],
) -> None:
    # Given several that name one, when the gateway is looked for, then the documented one wins,
    # and a profile's key comes with that profile's address alone.
    assert find_address(url, profile, environment | variables) == expected


def test_without_a_word_it_is_the_gateway_of_this_machine(tmp_path: Path) -> None:
    # Given no profile and no variable, then the gateway is the one here.
    nowhere = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert find_address(None, None, nowhere) == ("http://127.0.0.1:4000", None)


def test_profiles_are_readable_by_their_owner_alone(environment: dict[str, str]) -> None:
    # Given profiles that others may read by now, when they are written, then they may not.
    profiles = read_profiles(environment)
    assert stat.S_IMODE(profiles.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(profiles.path.parent.stat().st_mode) == 0o700
    profiles.path.chmod(0o644)
    profiles.write()
    assert stat.S_IMODE(profiles.path.stat().st_mode) == 0o600
    assert json.loads(profiles.path.read_text())["profiles"]["home"]["url"] == HOME.url


def test_what_is_no_profile_is_said(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Given a name that is no profile, when a command takes it, then it says which there are.
    monkeypatch.setenv("XDG_CONFIG_HOME", environment["XDG_CONFIG_HOME"])
    assert main(["keys", "list", "--profile", "wrk"]) == 77
    assert "there is default, home" in capsys.readouterr().err
    # Given both an address and a profile, then one of them is too many.
    assert main(["keys", "list", "--profile", "home", "--url", "http://a"]) == 2
    # Given a file that is none, then the file is named, and not overwritten by a login.
    path = read_profiles(environment).path
    path.write_text("{")
    assert main(["login", "http://127.0.0.1:1", "--key-file", str(path)]) == 1
    assert str(path) in capsys.readouterr().err
    assert path.read_text() == "{"
    with pytest.raises(ClientError, match="cannot be a profile"):
        check_profile_name("../x")
