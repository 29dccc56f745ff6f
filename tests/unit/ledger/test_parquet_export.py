"""When the Parquet files are written: how often, after a failure, and never when it is off."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import duckdb
import pytest

from schemas.config import Settings
from services.ledger import parquet_export
from services.ledger.parquet_export import ParquetExport
from services.ledger.worker import Worker

TIMEOUT_S = 30.0


class CaughtUp(Worker):
    """Stands for books that hold what the stream held, up to a message."""

    def __init__(self) -> None:
        self.sequence = 1

    async def caught_up(self) -> None:
        return


class Rounds:
    """Stands for the files: notes each round, and fails or takes as long as it is told."""

    def __init__(self) -> None:
        self.made: list[bool] = []
        self.error: Exception | None = None

    def write_due(self, *, thorough: bool) -> int:
        self.made.append(thorough)
        if self.error is not None:
            raise self.error
        return 0

    def stop(self) -> None: ...

    def close(self) -> None: ...


Check = Callable[[ParquetExport, CaughtUp, Rounds], Awaitable[None]]


def run_export(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, interval_s: int, check: Check
) -> None:
    """Let an export run beside a check."""
    rounds, worker = Rounds(), CaughtUp()
    monkeypatch.setattr(parquet_export, "ParquetDays", lambda *_: rounds)

    async def both() -> None:
        with duckdb.connect(":memory:") as connection:
            settings = Settings(parquet_interval_s=interval_s)
            export = ParquetExport(connection, worker, tmp_path, settings)
            running = asyncio.create_task(export.run())
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await check(export, worker, rounds)
            finally:
                running.cancel()
                await export.close()

    asyncio.run(both())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for knows no event
        await asyncio.sleep(0.001)


def test_nothing_is_written_where_it_is_off_until_a_new_configuration_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given the setting at 0, then no round is made; when a configuration gives an interval, then
    # one is, at once, and a thorough one.
    async def check(export: ParquetExport, worker: CaughtUp, rounds: Rounds) -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        assert rounds.made == []
        assert [each.value for each in await export.metrics()] == [0, 0]
        export.take(Settings(parquet_interval_s=60))
        await until(lambda: rounds.made == [True])
        await until(lambda: export._exported_to == 1)
        assert [each.value for each in await export.metrics()] == [1, 0]

    run_export(monkeypatch, tmp_path, 0, check)


def test_books_that_have_not_moved_are_not_looked_at_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given files that are current, when rounds are due and the books have not moved, then nothing
    # is looked at; when they have, then counts and sums are compared.
    async def check(export: ParquetExport, worker: CaughtUp, rounds: Rounds) -> None:
        await until(lambda: export._exported_to == 1)
        export.take(Settings(parquet_interval_s=60))
        for _ in range(20):
            await asyncio.sleep(0)
        assert rounds.made == [True]
        worker.sequence = 2
        export.take(Settings(parquet_interval_s=60))
        await until(lambda: rounds.made == [True, False])

    run_export(monkeypatch, tmp_path, 60, check)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), duckdb.Error("no")])
def test_a_round_that_fails_is_counted_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    # Given a disk that is full, or a database that fails, when a round fails, then it is told, and
    # the next one is made even if the books have not moved.
    async def check(export: ParquetExport, worker: CaughtUp, rounds: Rounds) -> None:
        rounds.error = error
        export.take(Settings(parquet_interval_s=60))
        await until(lambda: export._failures == 1)
        assert [each.value for each in await export.metrics()] == [0, 1]
        rounds.error = None
        export.take(Settings(parquet_interval_s=60))
        await until(lambda: export._exported_to == 1)
        assert rounds.made == [True, True]

    run_export(monkeypatch, tmp_path, 0, check)
    assert "the Parquet files are not current" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own there")
def test_the_thread_that_writes_lets_queries_go_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given the process that answers queries, when files are written, then by a thread that the
    # kernel lets run after the others, which keep their priority.
    seen: list[int] = []

    def noted(self: Rounds, *, thorough: bool) -> int:
        seen.append(os.getpriority(os.PRIO_PROCESS, 0))
        return 0

    async def check(export: ParquetExport, worker: CaughtUp, rounds: Rounds) -> None:
        await until(lambda: export._exported_to == 1)

    before = os.getpriority(os.PRIO_PROCESS, 0)
    monkeypatch.setattr(Rounds, "write_due", noted)
    run_export(monkeypatch, tmp_path, 60, check)
    assert seen == [min(before + 5, 19)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_a_long_round_is_followed_by_a_longer_pause(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given a round that took long, then the pause is nine times as long, not the interval; and at
    # most an hour.
    pauses: list[float | None] = []
    wait_for = asyncio.wait_for

    async def noted(waiting: Awaitable[object], pause_s: float | None) -> object:
        pauses.append(pause_s)
        return await wait_for(waiting, pause_s)

    clock = {"s": 0.0}

    async def check(export: ParquetExport, worker: CaughtUp, rounds: Rounds) -> None:
        await until(lambda: len(pauses) == 1)
        for sequence, took_s in ((2, 30.0), (3, 5000.0)):
            worker.sequence, clock["s"] = sequence, took_s
            export.take(Settings(parquet_interval_s=60))
            await until(lambda sequence=sequence: len(pauses) == sequence)

    def slow(self: Rounds, *, thorough: bool) -> int:
        clock["now"] = clock.get("now", 0.0) + clock["s"]
        return 0

    monkeypatch.setattr(Rounds, "write_due", slow)
    monkeypatch.setattr(parquet_export, "_now_s", lambda: clock.get("now", 0.0))
    monkeypatch.setattr(parquet_export.asyncio, "wait_for", noted)
    run_export(monkeypatch, tmp_path, 60, check)
    assert pauses == [60, 270.0, 3600.0]
