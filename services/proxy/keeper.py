"""Keeps the setup current: makes a new one when the configuration or the models change."""

import logging
import os
from collections.abc import Mapping

from schemas.config import GatewayConfig
from services.proxy.health import Health
from services.proxy.pool import PoolSettings, UpstreamPool
from services.proxy.setup import CurrentSetup, Setup, make_setup
from services.runtime.registry import RegistrySnapshot
from services.runtime.registry_models import RegistryModels

__all__ = ["SetupKeeper"]

log = logging.getLogger(__name__)


class SetupKeeper(CurrentSetup):
    """The current setup of one worker.

    `pool` is told of each new one: its limits, and which deployments there are. `health` keeps what
    it knows of those that stay; one whose address or `api_key` is another begins anew.
    """

    def __init__(
        self,
        config: GatewayConfig,
        master_key: str,
        *,
        registry: RegistrySnapshot,
        pool: UpstreamPool,
        health: Health,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._config = config
        self._master_key = master_key
        self._registry = registry
        self._pool = pool
        self._health = health
        self._environment = environment
        self._models = RegistryModels(config, environment)
        super().__init__(self._make(None))
        self._tell_pool()

    def progressed(self) -> None:
        """The registry has taken something in: look whether it was a model."""
        if self._registry.models_revision != self._revision:
            self._exchange()

    def take(self, config: GatewayConfig, master_key: str) -> None:
        """Take a new configuration for all requests that begin from now on."""
        self._config, self._master_key = config, master_key
        self._models = RegistryModels(config, self._environment)
        self._exchange()

    def unusable_ids(self) -> tuple[str, ...]:
        """Return the ids of the registry's models that cannot be served here."""
        return tuple(model.model_id for model in self.setup.unusable)

    def _exchange(self) -> None:
        before = self.setup
        self.setup = self._make(before)
        self._tell_pool()
        self._health.keep(self.setup.origins.keys())
        self._health.renew(_replaced(before, self.setup))

    def _make(self, before: Setup | None) -> Setup:
        self._revision = self._registry.models_revision
        added, unusable = self._models.deployments(self._registry.live_models())
        setup = make_setup(
            self._config,
            self._master_key,
            added=added,
            unusable=unusable,
            retired_hashes=before.secret_hashes if before else frozenset(),
        )
        told = before.unusable if before else ()
        for model in set(unusable).difference(told):
            log.warning(
                "a model of the registry cannot be used: %s",
                model.reason,
                extra={"model_id": model.model_id, "model_name": model.model_name},
            )
        return setup

    def _tell_pool(self) -> None:
        self._pool.configure(
            PoolSettings.from_settings(self.setup.settings),
            frozenset(self.setup.origins.values()),
        )


def _replaced(before: Setup, after: Setup) -> set[str]:
    """Return the ids of deployments that have another address or `api_key` than before.

    The file's ids are places in it: behind one that was taken out, the others move up.
    """
    known = {each.deployment_id: (each.api_base, each.api_key) for each in before.deployments}
    return {
        each.deployment_id
        for each in after.deployments
        if known.get(each.deployment_id, (each.api_base, each.api_key))
        != (each.api_base, each.api_key)
    }
