"""The benchmark: the upstream alone, nginx and the whole gateway, in one run, turn by turn.

A machine that does other things too slows everybody down: so all targets are measured in turns,
figures are medians over rounds, differences and ratios are taken within a round, and the CPU time
a request is the figure to trust. A run is void, and the exit code 1, unless the ledger has booked
every request exactly once with its true usage.
"""

import argparse
import platform
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import trustme

from bench.answers import body_bytes
from bench.books import Expected, check_file, wait_for_rows
from bench.cells import REQUESTS_MAX, Cell, chosen
from bench.claude_gateway import claude_gateway
from bench.guard import GUARDED, compare
from bench.litellm import litellm
from bench.load import GRACE_S, Job, LoadResult
from bench.processes import (
    Helper,
    cpu_us,
    pinned_cores,
    rss_kib,
    settle,
    thread_times,
    tree,
    used_us,
)
from bench.report import Measured, Report, summarize, table
from bench.targets import GATEWAY, Target, Upstream, nginx, other, tallygate

__all__ = ["main"]

ROUNDS, SECONDS = 5, 1.5
SMOKE_ROUNDS, SMOKE_SECONDS, SMOKE_REQUESTS_MAX = 1, 0.15, 200
GUARD_ROUNDS, GUARD_SECONDS = 4, 0.7
WARM_UP_S, PEER_WARM_UP_S = 0.2, 1.0
ANSWER_TIMEOUT_S = 30.0
IDLE_S = 2.0
CA_FILE = "ca.pem"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.proxy", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="only see that all of it works")
    parser.add_argument(
        "--guard", action="store_true", help="compare a short run with bench/baseline.json"
    )
    parser.add_argument("--rounds", type=int, help=f"rounds of all cells ({ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"length of a cell ({SECONDS})")
    parser.add_argument("--cells", nargs="+", metavar="CELL", help="only these: see bench/cells.py")
    parser.add_argument("--tls", action="store_true", help="TLS to the upstream; without direct")
    parser.add_argument("--unpinned", action="store_true", help="let processes use any core")
    parser.add_argument("--workers", type=int, default=1, help="proxies of the gateway (1)")
    parser.add_argument("--keys", type=int, default=1, help="virtual keys to make (1)")
    parser.add_argument("--json", type=Path, help="a file for all figures of the run")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        type=other,
        metavar="NAME=HOST:PORT:PID",
        help="another gateway, which runs already, in front of the port given by --upstream-port",
    )
    parser.add_argument(
        "--litellm",
        type=Path,
        metavar="VENV",
        help="also LiteLLM, from this virtual environment (bench/README.md)",
    )
    parser.add_argument(
        "--claude-gateway",
        type=Path,
        metavar="CLAUDE",
        help="also Anthropic's gateway, by this program, with PostgreSQL (bench/README.md)",
    )
    parser.add_argument("--upstream-port", type=int, default=0, help="instead of a free one")
    parser.add_argument("--pause", action="store_true", help="wait for Enter before the first cell")
    options = parser.parse_args()
    if options.tls and (options.litellm or options.claude_gateway):
        parser.error("peers are measured without TLS to the upstream: leave --tls out")
    if options.guard:
        options.cells = options.cells or list(GUARDED)
        options.rounds = options.rounds or GUARD_ROUNDS
        options.seconds = options.seconds or GUARD_SECONDS
    return options


class _Bench:
    """One run."""

    def __init__(
        self, options: argparse.Namespace, folder: Path, load: Helper, upstream: Helper
    ) -> None:
        self._load = load
        self._upstream = upstream
        self._folder = folder
        smoke = options.smoke
        self._rounds = options.rounds or (SMOKE_ROUNDS if smoke else ROUNDS)
        self._has_peers = bool(options.litellm or options.claude_gateway)
        self._seconds = options.seconds or (SMOKE_SECONDS if smoke else SECONDS)
        self._requests_max = SMOKE_REQUESTS_MAX if smoke else REQUESTS_MAX
        self.expected = Expected(folder / "ids")
        self.measured: list[Measured] = []

    def run(self, cells: list[Cell], targets: list[Target]) -> None:
        """Measure all cells on all targets. Raises RuntimeError where any of it fails."""
        # Peers that compile as they run, or import at a first request, are measured warm.
        for cell in cells if self._has_peers else cells[:1]:
            for target in targets:
                self._drive(cell, target, PEER_WARM_UP_S if self._has_peers else WARM_UP_S)
        for number in range(self._rounds):
            for cell in cells:
                # Nobody is always the first.
                first = number % len(targets)
                for target in targets[first:] + targets[:first]:
                    self._measure(cell, target)
            print(f"round {number + 1} of {self._rounds} is over", file=sys.stderr, flush=True)

    def _measure(self, cell: Cell, target: Target) -> None:
        others = [each for ids in target.others.values() for each in ids]
        settle(tree([*target.process_ids, *others]))
        process_ids = tree(target.process_ids)
        before = {part: thread_times(tree(ids)) for part, ids in target.others.items()}
        times = thread_times(process_ids)
        rss_before = rss_peak = rss_kib(process_ids)

        def watch() -> None:
            nonlocal rss_peak
            rss_peak = max(rss_peak, rss_kib(process_ids))

        result = self._drive(cell, target, self._seconds, watch)
        settle(tree([*target.process_ids, *others]))
        used, waited = used_us(times, thread_times(tree(target.process_ids)))
        count = result.requests
        self.measured.append(
            Measured(
                cell=cell.name,
                target=target.name,
                connections=cell.connections,
                events=cell.answer.events,
                load=result,
                cpu_us=used / count,
                wait_us=waited / count,
                others_us={
                    part: used_us(before[part], thread_times(tree(ids)))[0] / count
                    for part, ids in target.others.items()
                },
                rss_before_kib=rss_before,
                rss_peak_kib=rss_peak,
            )
        )

    def _drive(
        self, cell: Cell, target: Target, seconds: float, watch: Any = lambda: None
    ) -> LoadResult:
        job = Job(
            host=target.host,
            port=target.port,
            caller=target.caller,
            connections=cell.connections,
            body_bytes=cell.body_bytes,
            answer=cell.answer,
            seconds=seconds,
            stagger_s=cell.stagger_s,
            requests_max=self._requests_max,
            ids_path=str(self.expected.ids_path if target.is_booked else self._folder / "none"),
        )
        timeout_s = seconds + GRACE_S + ANSWER_TIMEOUT_S
        came_before = self._came_to_upstream()
        line = self._load.ask(msgspec.json.encode(job), timeout_s, watch)
        result = msgspec.json.decode(line, type=LoadResult)
        if result.error is not None:
            raise RuntimeError(f"{cell.name} on {target.name}: {result.error}")
        came = self._came_to_upstream() - came_before
        if came != result.requests:
            raise RuntimeError(
                f"{cell.name} on {target.name}: {result.requests} requests were answered, and "
                f"{came} came to the upstream"
            )
        if target.is_booked:
            self.expected.add(result.requests, body_bytes(cell.answer))
        return result

    def _came_to_upstream(self) -> int:
        return int(self._upstream.ask(b"", ANSWER_TIMEOUT_S, lambda: None))


def _about(options: argparse.Namespace, cores: tuple[int, int] | None) -> dict[str, Any]:
    return {
        "command": " ".join(sys.argv),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": f"proxy on {cores[0]}, load on {cores[1]}" if cores else "not pinned",
        "nginx": shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin") or "not there",
        "workers": options.workers,
        "keys": options.keys,
        **{name: version(name) for name in ("uvicorn", "uvloop", "httptools", "msgspec")},
    }


def _certificate(folder: Path) -> Path:
    """Make a CA and a server's certificate; return the file of the latter, with its key."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / CA_FILE)
    leaf = ca.issue_cert("127.0.0.1", "localhost")
    path = folder / "server.pem"
    leaf.private_key_and_cert_chain_pem.write_to_path(path)
    return path


def _memory(target: Target) -> dict[str, float]:
    groups = {"proxy": target.process_ids, **target.others}
    return {part: round(rss_kib(ids) / 1024, 1) for part, ids in groups.items()}


def _idle_cpu(target: Target) -> dict[str, float]:
    """Return what each process uses while nothing happens: µs a second."""
    groups = {"proxy": target.process_ids, **target.others}
    before = {part: cpu_us(ids)[0] for part, ids in groups.items()}
    time.sleep(IDLE_S)
    return {part: round((cpu_us(ids)[0] - before[part]) / IDLE_S) for part, ids in groups.items()}


def _run(options: argparse.Namespace, folder: Path) -> Report:
    cells = chosen(options.cells)
    cores = None if options.unpinned else pinned_cores()
    core, load_core = cores or (None, None)
    report = Report(about=_about(options, cores))
    with ExitStack() as stack:
        certificate = _certificate(folder) if options.tls else None
        arguments = [str(options.upstream_port), *([str(certificate)] if certificate else [])]
        upstream = stack.enter_context(Helper.started("bench.upstream", load_core, *arguments))
        port = int(upstream.ask(None, ANSWER_TIMEOUT_S, lambda: None))
        address = Upstream(port=port, ca_file=folder / CA_FILE if options.tls else None)
        load = stack.enter_context(Helper.started("bench.load", load_core))
        plain = stack.enter_context(nginx(folder / "nginx", address, core))
        running = tallygate(
            folder / "gateway", address, core, workers=options.workers, keys=options.keys
        )
        gateway, ours, start_up = stack.enter_context(running)
        direct = Target(name="direct", port=port, process_ids=(upstream.process_id,))
        # The load generator speaks no TLS.
        targets = [*([] if options.tls else [direct]), *([plain] if plain else []), ours]
        targets += options.also
        if options.litellm:
            peers = litellm(folder / "litellm", port, core, options.litellm)
            targets += stack.enter_context(peers)
        if options.claude_gateway:
            peer = claude_gateway(folder / "claude-gateway", port, core, options.claude_gateway)
            targets.append(stack.enter_context(peer))
        report.about |= {target.name: target.about for target in targets if target.about}
        settle(ours.process_ids)
        report.processes |= {
            "start_up": msgspec.to_builtins(start_up),
            "rss_mib_idle": _memory(ours),
            "idle_cpu_us_per_s": _idle_cpu(ours),
        }
        if options.pause:
            input(f"upstream {port}; proxy {ours.process_ids}; others {ours.others}; Enter: ")
        bench = _Bench(options, folder, load, upstream)
        bench.run(cells, targets)
        report.processes["ledger_behind_s"] = wait_for_rows(gateway, bench.expected)
        report.processes["rss_mib_after"] = _memory(ours)
        report.processes["requests_booked"] = bench.expected.requests
    # The gateway has ended: its books can be opened.
    report.faults = check_file(gateway.data / "ledger.duckdb", bench.expected)
    report.rounds = bench.measured
    report.rows = summarize(bench.measured)
    return report


def main() -> None:
    """Measure, print, and leave with 1 where the run is void."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="tallygate-bench-") as folder:
        report = _run(options, Path(folder))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    print(table(report.rows), end="\n\n")
    for name, told in {**report.about, **report.processes}.items():
        print(f"{name}: {told}")
    if not any(row["target"] == "nginx" for row in report.rows):
        print("nginx was not measured: there is none on this machine")
    for fault in report.faults:
        print(f"VOID: {fault}")
    if report.faults:
        raise SystemExit(1)
    if options.guard:
        guarded, faults = compare(report.rounds)
        print(guarded, end="\n\n")
        for fault in faults:
            print(f"SLOWER: {fault}")
        if faults:
            raise SystemExit(1)
    count = report.processes["requests_booked"]
    print(f"the ledger has each of the {count} requests exactly once ({GATEWAY})")


if __name__ == "__main__":
    main()
