"""Metrics of one process: what they are made of, and Prometheus' text form of them.

Nothing is counted here but by plain numbers that each service keeps anyway; they are read when
somebody asks. The form is version 0.0.4 of the text format, which every scraper reads.
"""

import asyncio
import logging
import re
import resource
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable
from importlib import metadata
from pathlib import Path

import msgspec

from schemas.metrics import METRICS, Metric

__all__ = [
    "CONTENT_TYPE",
    "Histogram",
    "Metrics",
    "Sample",
    "Series",
    "merged",
    "parsed",
    "rendered",
    "sample",
]

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COLLECT_TIMEOUT_S = 1.5
"""A part of the metrics that takes longer (NATS does not answer) is missing from the scrape."""
_STATM = Path("/proc/self/statm")
_STARTED_AT_S = time.time()
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Sample(msgspec.Struct, frozen=True):
    """One number. `labels` are pairs; `suffix` is that of a histogram's series."""

    metric: Metric
    value: float
    labels: tuple[tuple[str, str], ...] = ()
    suffix: str = ""


def sample(name: str, value: float, *labels: str) -> Sample:
    """Return a sample of a known metric; `labels` are the values, in the metric's order."""
    metric = METRICS[name]
    return Sample(metric, value, tuple(zip(metric.labels, labels, strict=True)))


class Histogram:
    """Counts durations (or other sizes) in few buckets; one observation costs a look-up."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, *bounds: float) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self, name: str) -> list[Sample]:
        """Return its series under a metric's name."""
        metric = METRICS[name]
        found, total = [], 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            label = "+Inf" if bound == float("inf") else f"{bound:g}"
            found.append(Sample(metric, total, (("le", label),), "_bucket"))
        found.append(Sample(metric, self._sum, (), "_sum"))
        found.append(Sample(metric, total, (), "_count"))
        return found


Collector = Callable[[], Awaitable[list[Sample]]]


class Metrics:
    """All that a process has to tell; its parts put in what they know."""

    def __init__(self) -> None:
        self._collectors: dict[str, Collector] = {}
        self._failures = 0

    def put(self, name: str, collector: Collector) -> None:
        """Ask `collector` at each scrape; it takes the place of an earlier one of its name."""
        self._collectors[name] = collector

    async def text(self, part: str) -> str:
        """Return all metrics of the process in Prometheus' text form."""
        found = _process()
        for name, collector in list(self._collectors.items()):
            try:
                async with asyncio.timeout(COLLECT_TIMEOUT_S):
                    found += await collector()
            except Exception as error:  # noqa: BLE001 - one part must not hide the others
                self._failures += 1
                log.debug("metrics of %s are missing: %r", name, error)
        found.append(sample("tallygate_collect_failures_total", self._failures))
        return rendered(part, found)


def _process() -> list[Sample]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    try:
        resident = int(_STATM.read_text("ascii").split()[1]) * resource.getpagesize()
    except OSError:
        # Without /proc: the most it ever was.
        resident = used.ru_maxrss * 1024
    return [
        sample("tallygate_up", 1),
        sample("tallygate_build_info", 1, metadata.version("tallygate")),
        sample("tallygate_process_start_time_seconds", round(_STARTED_AT_S, 3)),
        sample("tallygate_process_cpu_seconds_total", used.ru_utime + used.ru_stime),
        sample("tallygate_process_resident_bytes", resident),
    ]


def rendered(part: str, samples: Iterable[Sample]) -> str:
    """Return samples of one process as text, those of one metric together."""
    blocks: dict[str, list[str]] = {}
    for each in samples:
        metric = each.metric
        lines = blocks.setdefault(
            metric.name,
            [
                f"# HELP {metric.name} {_help(metric.meaning)}",
                f"# TYPE {metric.name} {metric.kind}",
            ],
        )
        labels = ",".join(
            f'{name}="{_value(value)}"' for name, value in (("part", part), *each.labels)
        )
        number = repr(each.value) if isinstance(each.value, float) else str(each.value)
        lines.append(f"{metric.name}{each.suffix}{{{labels}}} {number}")
    return "".join(f"{line}\n" for lines in blocks.values() for line in lines)


def merged(texts: Iterable[str]) -> str:
    """Return the texts of several processes as one, each metric told once."""
    blocks: dict[str, list[str]] = {}
    for text in texts:
        name = ""
        for line in text.splitlines():
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
                is_new = name not in blocks
                block = blocks.setdefault(name, [])
            if name and (is_new or not line.startswith("#")):
                block.append(line)
    return "".join(f"{line}\n" for lines in blocks.values() for line in lines)


class Series(msgspec.Struct, frozen=True):
    """One line of a text: a number, the name that it stands under, and its labels."""

    name: str
    labels: dict[str, str]
    value: float


def parsed(text: str) -> list[Series]:
    """Return what a text of this module tells; lines of another form are passed over."""
    found = []
    for line in text.splitlines():
        head, _, number = line.rpartition(" ")
        name, brace, labels = head.partition("{")
        try:
            value = float(number)
        except ValueError:
            continue
        if brace and not line.startswith("#"):
            pairs = {key: _unescaped(quoted) for key, quoted in _LABEL.findall(labels)}
            found.append(Series(name, pairs, value))
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text)


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _value(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
