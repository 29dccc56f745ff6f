"""The NATS of compose.yaml and the embedded one let each service do the same things."""

import re
from pathlib import Path

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


def _variable(name: str) -> str:
    return f"$TALLYGATE_NATS_{name.upper().replace('-', '_')}_PASSWORD"
