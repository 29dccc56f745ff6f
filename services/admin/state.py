"""What the handlers of one admin service share."""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

from schemas.client_address import proved_address
from schemas.config import GatewayConfig
from schemas.errors import RateLimited, Unauthenticated, Unavailable
from schemas.guardrails import Guardrail
from schemas.keys import hash_key, same_secret
from services.admin.alerts import Alerts
from services.admin.config_reload import ConfigReload
from services.admin.failures import FailureLimit
from services.admin.ledger_client import LedgerClient
from services.admin.price_view import PriceView
from services.admin.prices import Prices
from services.admin.principal import MASTER, Principal, principal_of_key
from services.admin.repricings import Repricings
from services.admin.writer import RegistryWriter
from services.runtime.bus import Bus
from services.runtime.config_file import ConfigFile
from services.runtime.registry import RegistrySnapshot

__all__ = ["PROVED_CALLER", "AdminState", "now_us"]

REGISTRY_WAIT_S = 3.0
"""A request that comes while the registry is still being read waits so long for it, then 503."""
REGISTRY_POLL_S = 0.02
PROVED_CALLER = "tallygate.caller"
"""In a request's state: who asks, where the dashboard asks for one who is logged in."""


def now_us() -> int:
    """Return the time in microseconds since the epoch."""
    return time.time_ns() // 1000


class AdminState:
    """The parts of the admin service, wired by `services.admin.app`."""

    def __init__(
        self,
        *,
        bus: Bus,
        snapshot: RegistrySnapshot,
        file: ConfigFile,
        master_key: str,
        config: GatewayConfig,
        folder: Path,
    ) -> None:
        self.bus = bus
        self.folder = folder
        self.snapshot = snapshot
        self.timezone = config.timezone
        self.budget = config.budget
        self.writer = RegistryWriter(bus, snapshot)
        self.ledger = LedgerClient(bus)
        self.ledger.take(config)
        self.alerts = Alerts(bus, folder, config.alerts, snapshot, self.ledger)
        self.prices = Prices(bus, self.ledger)
        self.price_view = PriceView(self.ledger)
        self.repricings = Repricings(bus, self.ledger)
        self.reload = ConfigReload(bus, snapshot, file)
        self._file = file
        self._master_key = master_key
        self._failures = FailureLimit()

    @property
    def master_key(self) -> str:
        """The master key in force."""
        return self._master_key

    def proved_address(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Return the address of the client for whom the proxy passed a request on, if it did."""
        return proved_address(headers, hash_key(self._master_key))

    @property
    def guardrails(self) -> tuple[Guardrail, ...]:
        """The guardrails that the configuration in force has."""
        return self._file.config.guardrails

    @property
    def guardrail_names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(each.name for each in self.guardrails)

    @property
    def config(self) -> GatewayConfig:
        """The configuration in force."""
        return self._file.config

    def take(self, master_key: str, config: GatewayConfig) -> None:
        """Take a new configuration: the master key of before is refused from now on."""
        self._master_key = master_key
        self.timezone = config.timezone
        self.budget = config.budget
        self.ledger.take(config)
        self.alerts.take(config.alerts)

    async def registry(self) -> RegistrySnapshot:
        """Return the snapshot once it was read. Raises Unavailable after REGISTRY_WAIT_S."""
        deadline_s = time.monotonic() + REGISTRY_WAIT_S
        while not self.snapshot.loaded:
            if time.monotonic() >= deadline_s:
                raise Unavailable(
                    "the registry of keys could not be read from NATS yet. Try again in some "
                    "seconds; if it stays so, look at the logs of nats-server and ledger"
                )
            await asyncio.sleep(REGISTRY_POLL_S)
        return self.snapshot

    async def identify(self, candidates: list[str], address: str) -> Principal:
        """Return who asks. Raises Unauthenticated, RateLimited or Unavailable.

        The master key is compared in constant time, and only while the address did not try too
        many wrong ones; virtual keys are looked up by their hash.
        """
        if not candidates:
            raise Unauthenticated(
                "Authentication Error, No api key passed in: send the master key as "
                '"Authorization: Bearer …" or "x-litellm-api-key: …"',
                {"www-authenticate": "Bearer"},
            )
        for candidate in candidates:
            record = self.snapshot.by_hash(hash_key(candidate))
            if record is not None:
                return principal_of_key(self.snapshot, record, now_us())
        now_s = time.monotonic()
        for candidate in candidates:
            key_hash = hash_key(candidate)
            wait_s = self._failures.wait_s(address, key_hash, now_s)
            if wait_s > 0:
                raise RateLimited(
                    "too many wrong credentials from your address; wait a minute",
                    {"retry-after": str(int(wait_s) + 1)},
                )
            if same_secret(candidate, self._master_key):
                return MASTER
            if not self.snapshot.loaded:
                # It may be a virtual key that is not known yet: no verdict before that is sure.
                snapshot = await self.registry()
                record = snapshot.by_hash(key_hash)
                if record is not None:
                    return principal_of_key(snapshot, record, now_us())
            self._failures.failed(address, key_hash, now_s)
        raise Unauthenticated(
            "Authentication Error, Invalid API key provided: it is neither the master key nor a "
            "virtual key of this gateway",
            {"www-authenticate": "Bearer"},
        )
