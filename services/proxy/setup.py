"""What a worker makes of its configuration: one immutable object, exchanged whole.

A request takes the setup of the moment in which it begins and keeps it to its end, so that it sees
one configuration and no mixture of two. A change at run time makes a new setup.
"""

from collections.abc import Mapping, Sequence

import msgspec

from schemas.config import Deployment, GatewayConfig, Settings
from schemas.keys import hash_key
from schemas.prices import PriceOverlay
from services.proxy.guards import Guards
from services.proxy.routing import Router
from services.proxy.upstream import Origin
from services.runtime.registry_models import UnusableModel

__all__ = ["CurrentSetup", "Setup", "make_setup"]

ANTHROPIC_HOST = "api.anthropic.com"


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """All that requests need of the configuration.

    `secret_hashes` are those of all master keys that this process has had: none of them is sent to
    a deployment. `origins` are those of the deployments, by deployment id. `own_credential_hosts`
    may be sent a client's own credential. `unusable` are the registry's models that cannot be
    served here. `deployments` are all of them, in the order of the configuration. `prices` are
    its entries of prices.
    """

    settings: Settings
    master_key_hash: str
    secret_hashes: frozenset[str]
    router: Router
    guards: Guards
    origins: Mapping[str, Origin]
    own_credential_hosts: frozenset[str]
    prices: tuple[PriceOverlay, ...]
    unusable: tuple[UnusableModel, ...] = ()
    deployments: tuple[Deployment, ...] = ()


class CurrentSetup:
    """Holds the setup that new requests begin with."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup


def make_setup(
    config: GatewayConfig,
    master_key: str,
    *,
    added: Sequence[Deployment] = (),
    unusable: tuple[UnusableModel, ...] = (),
    retired_hashes: frozenset[str] = frozenset(),
) -> Setup:
    """Return the setup of a configuration and the registry's models.

    The file's deployments come first; a model of the registry (`added`) with the name of one of
    them is one more deployment of that name. `master_key` is the one in force, `retired_hashes` are
    those of earlier ones.
    """
    deployments = (*config.deployments, *added)
    return Setup(
        settings=config.settings,
        master_key_hash=hash_key(master_key),
        secret_hashes=retired_hashes | {hash_key(master_key)},
        router=Router(
            deployments, {each.model_name: each.reason for each in unusable}, config.router
        ),
        guards=Guards(config.guardrails),
        origins={
            deployment.deployment_id: Origin.from_url(deployment.api_base)
            for deployment in deployments
        },
        own_credential_hosts=frozenset({ANTHROPIC_HOST, *config.settings.oauth_hosts}),
        prices=config.prices,
        unusable=unusable,
        deployments=deployments,
    )
