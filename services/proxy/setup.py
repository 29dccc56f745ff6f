"""What a worker makes of its configuration: one immutable object, exchanged whole.

A request takes the setup of the moment in which it begins and keeps it to its end, so that it sees
one configuration and no mixture of two. A change at run time makes a new setup.
"""

from collections.abc import Mapping

import msgspec

from schemas.config import GatewayConfig, Settings
from schemas.keys import hash_key
from services.proxy.routing import Router
from services.proxy.upstream import Origin

__all__ = ["CurrentSetup", "Setup", "make_setup"]

ANTHROPIC_HOST = "api.anthropic.com"


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """All that requests need of the configuration.

    `origins` are those of the deployments, by deployment id. `own_credential_hosts` may be sent a
    client's own credential.
    """

    settings: Settings
    master_key_hash: str
    router: Router
    origins: Mapping[str, Origin]
    own_credential_hosts: frozenset[str]


class CurrentSetup:
    """Holds the setup that new requests begin with."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup


def make_setup(config: GatewayConfig, master_key: str) -> Setup:
    """Return the setup of a configuration; `master_key` is the one in force."""
    return Setup(
        settings=config.settings,
        master_key_hash=hash_key(master_key),
        router=Router(config.deployments),
        origins={
            deployment.deployment_id: Origin.from_url(deployment.api_base)
            for deployment in config.deployments
        },
        own_credential_hosts=frozenset({ANTHROPIC_HOST, *config.settings.oauth_hosts}),
    )
