"""The metrics of one worker of the proxy: read from what its parts count anyway."""

from collections.abc import Awaitable, Callable

from services.proxy.outbox import Outbox
from services.proxy.pool import UpstreamPool
from services.proxy.prompts import Prompts
from services.proxy.rates import Rates
from services.proxy.reservations import Reservations
from services.proxy.seats import SpentSeats
from services.runtime.metrics import Sample, sample
from services.runtime.registry import RegistrySnapshot

__all__ = ["worker_metrics"]


def worker_metrics(
    outbox: Outbox,
    pool: UpstreamPool,
    registry: RegistrySnapshot,
    prompts: Prompts,
    rates: Rates,
    seats: SpentSeats,
    reservations: Reservations,
) -> Callable[[], Awaitable[list[Sample]]]:
    """Return what reads them."""

    async def collect() -> list[Sample]:
        opened, idle = pool.connections
        return [
            *outbox.samples(),
            *prompts.samples(),
            *rates.samples(),
            *seats.samples(),
            *reservations.samples(),
            sample("tallygate_upstream_connections", opened - idle, "busy"),
            sample("tallygate_upstream_connections", idle, "idle"),
            sample("tallygate_registry_keys", len(registry.keys)),
            sample("tallygate_registry_sequence", registry.sequence),
        ]

    return collect
