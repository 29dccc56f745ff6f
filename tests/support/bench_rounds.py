"""Made-up rounds of the benchmark, for tests of what is made of them."""

from bench.load import LoadResult
from bench.report import Measured

__all__ = ["measured"]


def measured(
    cell: str, target: str, cpu_us: float, others_us: dict[str, float] | None = None
) -> Measured:
    """Return a round of one request, of which only the CPU time matters."""
    load = LoadResult(
        requests=1,
        seconds=1,
        p50_us=1,
        p99_us=1,
        ttfb_p50_us=1,
        ttfb_p99_us=1,
        event_delay_p50_us=None,
        event_delay_p99_us=None,
        error=None,
    )
    return Measured(
        cell=cell,
        target=target,
        connections=1,
        events=0,
        load=load,
        cpu_us=cpu_us,
        wait_us=0,
        others_us=others_us or {},
        rss_before_kib=0,
        rss_peak_kib=0,
    )
