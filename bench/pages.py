"""What each page of the dashboard takes and weighs on a large ledger: by hand.

`python -m bench.pages --requests 10000000` makes the books of bench.ledger_queries, ending now, and
200 keys in the registry, half of them with budgets; starts the reader on them and the admin service
over it, and asks for each page of the menu, and for details, as a browser does: the page, then the
parts that it fetches by itself. The time of a page is that until its HTML is whole, that of a part
the same; each is asked once before, which is not counted. What a page weighs is everything that a
browser without a cache fetches: HTML, packed; styles, scripts, letters, parts.

The queries that a page asks the ledger are overheard on NATS. Where a page takes longer than
SLOW_MS, each of them is asked alone, and the slowest is printed.
"""

import argparse
import asyncio
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from pathlib import Path

import httpx
import msgspec

from bench.ledger_ingest import nats
from bench.ledger_queries import fill
from schemas.events import KeyCreated, TeamCreated, UserCreated, us_from_time
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from schemas.rpc import QueryReply, QueryRequest
from schemas.streams import QUERY_SUBJECT, key_subject, team_subject, user_subject
from services.admin.ui.navigation import PAGES
from services.demo.company import Change
from services.demo.publishing import publish_changes
from services.runtime.bus import Bus
from services.runtime.folder import DataFolder
from services.runtime.nats_server import EmbeddedNats
from tests.support.admin import MASTER_KEY, running_admin
from tests.support.ledger import LedgerProcess, run
from tests.support.made_up import made_up_messages

SLOW_MS = 200
KEYS, TEAMS = 200, 20
DETAILS = {
    "/ui/logs?period=7d": "",
    "/ui/logs?period=30d&status=error": "",
    "/ui/logs?sort=cost&period=30d": "",
    "/ui/logs?key=developer-150": "",
    "/ui/sessions?period=30d": "",
    "/ui/sessions?period=30d&sort=cost": "",
    "/ui/logs/{}": "SELECT request_id FROM requests WHERE status = 'success' AND key_id IS NOT NULL"
    " ORDER BY started_at DESC LIMIT 1",
    "/ui/sessions/{}": "SELECT session_id FROM requests WHERE session_id IS NOT NULL"
    " ORDER BY started_at DESC LIMIT 1",
    "/ui/keys/key_0007": "",
    "/ui/teams/team_7": "",
    "/ui/users/user_7": "",
}
"""Pages beside the menu's; `{}` is the first value of the query."""
_ASSET = re.compile(r'(?:href|src)="(/ui/assets/[^"]+)"')
_LOADED = re.compile(r'<[^>]*hx-get="([^"]+)"[^>]*hx-trigger="load[^>]*>')
_FIRST_PAUSE_S = 0.05


@dataclass
class Measured:
    """One page, or one part of one: its times, and the queries that it asked last."""

    times_ms: list[float] = field(default_factory=list)
    bytes: int = 0
    queries: list[QueryRequest] = field(default_factory=list)

    @property
    def p50_ms(self) -> float:
        """The time in the middle."""
        return statistics.median(self.times_ms)


class Asker:
    """A browser, as far as time and weight go; hears what the admin service asks meanwhile."""

    def __init__(self, client: httpx.AsyncClient, admin: Bus, reader: Bus) -> None:
        self._client = client
        self._admin = admin
        self._reader = reader
        self._heard: list[QueryRequest] = []

    async def listen(self) -> None:
        """Keep the queries that go to the reader, until it is cancelled."""
        async for payload in self._reader.hear(QUERY_SUBJECT):
            if payload is not None:
                self._heard.append(msgspec.json.decode(payload, type=QueryRequest))

    async def page(self, path: str, repeats: int) -> dict[str, Measured]:
        """Return the page and its parts, by their paths; empty where there is no such page."""
        found: dict[str, Measured] = {}
        assets: set[str] = set()
        for repeat in range(1 + repeats):
            text, status = await self._timed(path, found.setdefault(path, Measured()))
            if status == httpx.codes.NOT_FOUND:
                return {}
            assert status == httpx.codes.OK, f"{path}: {status} {text[:500]}"
            if not repeat:
                found[path].times_ms.clear()
            assets |= set(_ASSET.findall(text))
            for part in _LOADED.findall(text):
                address = unescape(part)
                _, part_status = await self._timed(address, found.setdefault(address, Measured()))
                assert part_status == httpx.codes.OK, f"{address}: {part_status}"
                if not repeat:
                    found[address].times_ms.clear()
        page = found[path]
        page.bytes += sum(each.bytes for each in found.values() if each is not page)
        for asset in sorted(assets):
            answer = await self._client.get(asset)
            assert answer.status_code == httpx.codes.OK, asset
            page.bytes += _length(answer)
        return found

    async def _timed(self, path: str, measured: Measured) -> tuple[str, int]:
        self._heard.clear()
        began = time.monotonic()
        answer = await self._client.get(path)
        measured.times_ms.append(1000 * (time.monotonic() - began))
        measured.bytes = _length(answer)
        # What was said on NATS before the answer has come by then.
        await asyncio.sleep(_FIRST_PAUSE_S)
        measured.queries = list(self._heard)
        return answer.text, answer.status_code

    async def slowest(self, measured: Measured) -> tuple[float, str]:
        """Return the query that takes longest of those that were asked, each asked alone."""
        times = []
        for query in measured.queries:
            began = time.monotonic()
            reply = await self.ask(query)
            assert reply.error is None, reply.error
            times.append((1000 * (time.monotonic() - began), " ".join(query.query.split())))
        return max(times, default=(0.0, "no query: it is the page itself"))

    async def ask(self, query: QueryRequest) -> QueryReply:
        """Ask the reader."""
        payload = await self._admin.request(QUERY_SUBJECT, msgspec.json.encode(query))
        return msgspec.json.decode(payload, type=QueryReply)


def _length(answer: httpx.Response) -> int:
    return answer.num_bytes_downloaded + sum(len(k) + len(v) + 4 for k, v in answer.headers.raw)


def _registry(now: datetime) -> list[Change]:
    """Return the keys, users and teams that the made-up requests name."""
    at_us = us_from_time(now - timedelta(days=100))
    changes: list[Change] = []

    def add(kind: Callable[..., object], subject: str, about: str, record: object) -> None:
        event = kind(source="/bench", id=about, time=now, subject=about, data=record)
        changes.append(Change(subject, event))  # type: ignore[arg-type]

    for number in range(TEAMS):
        name = f"team_{number}"
        team = TeamRecord(team_id=name, max_budget_usd=Decimal(100_000), budget_duration="1mo")
        add(TeamCreated, team_subject(name), name, team)
    for number in range(KEYS):
        user, key = f"user_{number}", f"key_{number:04d}"
        add(UserCreated, user_subject(user), user, UserRecord(user_id=user))
        record = KeyRecord(
            key_id=key,
            key_hash=f"{number:064x}",
            key_name="sk-...0000",
            key_alias=f"developer-{number}",
            user_id=user,
            team_id=f"team_{number % TEAMS}",
            max_budget_usd=Decimal(10_000) if number % 2 else None,
            budget_duration="1mo" if number % 2 else None,
            created_at_us=at_us,
        )
        add(KeyCreated, key_subject(key), key, record)
    return changes


async def _measure_pages(
    url: str, server: EmbeddedNats, repeats: int
) -> tuple[dict[str, dict[str, Measured]], dict[str, tuple[float, str]]]:
    """Return each page with its parts, and the slowest query of those that are slow."""
    admin = await Bus.connect(server.url("admin"), "admin")
    reader = await Bus.connect(server.url("ledger-reader"), "ledger-reader")
    headers = {"accept-encoding": "gzip"}
    pages: dict[str, dict[str, Measured]] = {}
    slow: dict[str, tuple[float, str]] = {}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
        asker = Asker(client, admin, reader)
        listening = asyncio.create_task(asker.listen())
        answer = await client.post("/ui/login", data={"key": MASTER_KEY, "next": "/ui"})
        assert answer.status_code == httpx.codes.SEE_OTHER, answer.text
        try:
            for template, query in {**{page.path: "" for page in PAGES}, **DETAILS}.items():
                path = template
                if query:
                    reply = await asker.ask(QueryRequest(query=query))
                    value = msgspec.json.decode(msgspec.json.encode(reply.rows))[0][0]
                    path = template.format(value)
                pages[template] = await asker.page(path, repeats)
                for address, measured in pages[template].items():
                    if measured.p50_ms > SLOW_MS:
                        slow[address] = await asker.slowest(measured)
        finally:
            listening.cancel()
            await admin.close()
            await reader.close()
    return {template: found for template, found in pages.items() if found}, slow


def measure(folder: Path, requests: int, repeats: int) -> None:
    """Fill, ask and print. Raises AssertionError where a page is not there."""
    data = DataFolder(folder / "data")
    now = datetime.now(UTC)

    async def begin(bus: Bus) -> None:
        await bus.ensure_streams()

    async def first(bus: Bus) -> None:
        await bus.publish("usage.0", next(made_up_messages(1, plain=True)))

    async def registry(bus: Bus) -> None:
        await publish_changes(bus, _registry(now))

    with nats(data) as server:
        run(begin, server.url("ledger-writer"), "ledger-writer")
        run(first, server.url("proxy"), "proxy")
        run(registry, server.url("admin"), "admin")
        reader = LedgerProcess(folder, server.url("ledger-reader"), "reader")
        reader.catch_up()
        began_s = time.monotonic()
        fill(reader.database, requests, us_from_time(now))
        print(f"{requests:,} requests made in {time.monotonic() - began_s:.0f} s", flush=True)
        reader.start()
        try:
            reader.wait_ready()
            with running_admin(folder / "admin", server.url("admin")) as admin:
                pages, slow = asyncio.run(_measure_pages(admin.url, server, repeats))
        finally:
            assert reader.stop() == 0
    _report(pages, slow)


def _report(pages: dict[str, dict[str, Measured]], slow: dict[str, tuple[float, str]]) -> None:
    for template, found in pages.items():
        for place, (address, measured) in enumerate(found.items()):
            name = template if place == 0 else f"  + {address.partition('?')[0]}"
            weight = f"{measured.bytes / 1000:4.0f} KB" if place == 0 else ""
            print(
                f"{name:36} p50 {measured.p50_ms:5.0f} ms   max {max(measured.times_ms):5.0f} ms"
                f"   {len(measured.queries):2} queries   {weight}"
            )
    for address, (took_ms, query) in slow.items():
        print(f"slow: {address}: {took_ms:.0f} ms of it alone: {query[:600]}")


def main() -> None:
    """Measure, and print a table of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.pages")
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--smoke", action="store_true", help="few requests: only see that it works")
    values = parser.parse_args()
    requests, repeats = (9_000, 1) if values.smoke else (values.requests, values.repeats)
    with tempfile.TemporaryDirectory(prefix="tallygate-pages-") as folder:
        measure(Path(folder), requests, repeats)


if __name__ == "__main__":
    main()
