"""The files that describe containers agree with each other and with the program."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from services.runtime.nats_permissions import NATS_USERS, user_entry

ROOT = Path(__file__).resolve().parents[2]


def test_nats_in_a_container_has_the_users_of_the_embedded_one() -> None:
    """Given the table of users, then the container's configuration holds exactly their entries."""
    config = (ROOT / "containers/nats/nats.conf").read_text()
    users = re.search(r"  users: \[\n(.*?)\n  \]\n", config, re.DOTALL)
    assert users is not None
    assert users[1] == "\n".join(user_entry(user, _variable(user.name)) for user in NATS_USERS)


def test_nats_in_a_container_syncs_every_write() -> None:
    """Given the container's configuration, then an acknowledgement means `on disk`."""
    config = (ROOT / "containers/nats/nats.conf").read_text()
    assert "\n    sync_interval: always\n" in config
    assert "\nmax_payload: 8MB\n" in config


def test_compose_gives_nats_every_password_and_each_service_its_own() -> None:
    """Given compose.yaml, then no password is missing and secrets.sh writes each of them."""
    compose = (ROOT / "compose.yaml").read_text()
    secrets = (ROOT / "containers/secrets.sh").read_text()
    for user in NATS_USERS:
        variable = _variable(user.name).removeprefix("$")
        assert f"      {variable}: ${{{variable}:?" in compose
        assert f"nats://{user.name}:${{{variable}}}@nats:4222" in compose
        part = variable.removeprefix("TALLYGATE_NATS_").removesuffix("_PASSWORD")
        assert re.search(rf"for part in .*\b{part}\b", secrets)


def test_only_the_proxy_is_published_and_only_on_this_machine() -> None:
    """Given compose.yaml, then one service has ports, on loopback, and the bus has no way out."""
    compose = _read("compose.yaml")
    services = compose["services"]
    assert compose["networks"]["bus"]["internal"]
    assert [name for name in services if "ports" in services[name]] == ["proxy"]
    assert services["proxy"]["ports"] == ["${TALLYGATE_LISTEN:-127.0.0.1:4000}:4000"]
    assert [name for name in services if services[name]["networks"] != ["bus"]] == ["proxy"]


def test_every_service_runs_without_rights() -> None:
    """Given both compose files, then each service has a read-only root and no capability."""
    for path in ("compose.yaml", "tests/containers/compose.test.yaml"):
        for name, service in _read(path)["services"].items():
            if "image" not in service:
                continue
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name


def test_image_copies_only_what_the_ignore_file_lets_in() -> None:
    """Given the Dockerfile, then each thing that it copies passes .dockerignore."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [
        word.rstrip("*")
        for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile, re.MULTILINE)
        for word in line.split()[:-1]
    ]
    assert "services" in copied
    assert [name for name in copied if f"!{name}" not in allowed] == []


def test_package_holds_every_file_that_its_code_reads() -> None:
    """Given the packages, then each file that is no Python is named in their package data."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    globs = project["tool"]["setuptools"]["package-data"]
    for package in ("prices", "schemas", "services"):
        files = [
            path.relative_to(ROOT / package)
            for path in (ROOT / package).rglob("*")
            if path.is_file() and path.suffix not in {".py", ".pyc"}
        ]
        left_out = [path for path in files if not any(path.match(glob) for glob in globs[package])]
        assert left_out == [], package


def _read(path: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / path).read_text())
    return found


def _variable(name: str) -> str:
    return f"$TALLYGATE_NATS_{name.upper().replace('-', '_')}_PASSWORD"
