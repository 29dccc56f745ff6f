"""Metrics: their text, and the sockets and the port on which they are told."""

import asyncio
import socket
from pathlib import Path

import httpx
import pytest

from services.runtime.metrics import Histogram, Metrics, Sample, merged, rendered, sample
from services.runtime.metrics_server import MetricsServer, gather
from tests.support.ports import free_port


def test_text_has_each_metric_once_and_escapes_what_clients_chose() -> None:
    # Given a name of a model with quotes, a backslash and a line's end, when it is a label, then
    # the text is one line a sample and the name can be read back.
    name = 'a"b\\c\nd'
    text = rendered(
        "proxy-0",
        [
            sample("tallygate_requests_total", 3, name, "success", "2xx"),
            sample("tallygate_requests_in_flight", 1),
            sample("tallygate_requests_total", 4, "m", "failure", "5xx"),
        ],
    )
    lines = text.splitlines()
    assert lines[1] == "# TYPE tallygate_requests_total counter"
    assert lines[2] == (
        'tallygate_requests_total{part="proxy-0",model="a\\"b\\\\c\\nd",'
        'outcome="success",status_class="2xx"} 3'
    )
    assert lines[3].endswith(" 4")
    assert len(lines) == 7


def test_histogram_counts_up_to_each_bound_and_beyond() -> None:
    # Given observations below, at and above the bounds, then each bucket holds all that are not
    # larger than its bound, and the last one all.
    histogram = Histogram(0.5, 1)
    for value in (0.1, 0.5, 0.7, 1.0, 3.0):
        histogram.observe(value)
    found = {
        (each.suffix, each.labels[0][1] if each.labels else ""): each.value
        for each in histogram.samples("tallygate_query_seconds")
    }
    assert found == {
        ("_bucket", "0.5"): 2,
        ("_bucket", "1"): 4,
        ("_bucket", "+Inf"): 5,
        ("_sum", ""): 5.3,
        ("_count", ""): 5,
    }


def test_texts_of_processes_are_merged_with_one_head_a_metric() -> None:
    # Given the texts of two workers, when they are merged, then each metric is described once and
    # both samples stand under it.
    texts = [rendered(f"proxy-{n}", [sample("tallygate_up", 1)]) for n in range(2)]
    lines = merged(texts).splitlines()
    assert [line for line in lines if line.startswith("# TYPE")] == ["# TYPE tallygate_up gauge"]
    assert lines[2:] == ['tallygate_up{part="proxy-0"} 1', 'tallygate_up{part="proxy-1"} 1']


async def _breaks() -> list[Sample]:
    raise ValueError("no figures today")


def test_a_part_that_fails_hides_no_other() -> None:
    # Given a part that raises, when the metrics are read, then those of the process are there and
    # the failure is counted.
    metrics = Metrics()
    metrics.put("broken", _breaks)
    text = asyncio.run(metrics.text("admin"))
    assert 'tallygate_up{part="admin"} 1' in text
    assert 'tallygate_collect_failures_total{part="admin"} 1' in text


def test_one_port_tells_of_all_processes_of_a_folder(tmp_path: Path) -> None:
    # Given two processes whose folder has a path too long for a socket, and the socket of a third
    # that was killed, when the port is asked, then all three are told, the third as down; other
    # paths are not found; and a process that ended in order has no socket any more.
    folder = tmp_path / ("deep" * 20) / ("deeper" * 10)
    folder.mkdir(parents=True)
    port = free_port()

    async def look() -> None:
        one = MetricsServer(Metrics(), "proxy-0", folder)
        two = MetricsServer(Metrics(), "admin", folder, ("127.0.0.1", port))
        (folder / "ledger-writer.sock").touch()
        async with one.running(), two.running(), httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{port}/metrics")
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            ups = {line for line in answer.text.splitlines() if line.startswith("tallygate_up")}
            assert ups == {
                'tallygate_up{part="admin"} 1',
                'tallygate_up{part="ledger-writer"} 0',
                'tallygate_up{part="proxy-0"} 1',
            }
            assert (await client.get(f"http://127.0.0.1:{port}/")).status_code == 404
            assert (await client.post(f"http://127.0.0.1:{port}/metrics")).status_code == 405
        assert set(await gather(folder)) == {"ledger-writer"}

    asyncio.run(look())
    assert [path.name for path in folder.iterdir()] == ["ledger-writer.sock"]


def test_a_taken_port_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Given a port that another program has, when metrics are to be served there, then the process
    # runs on, serves its socket, and a warning says so.
    async def look(port: int) -> None:
        async with MetricsServer(Metrics(), "admin", tmp_path, ("127.0.0.1", port)).running():
            assert 'tallygate_up{part="admin"} 1' in (await gather(tmp_path))["admin"]

    with socket.create_server(("127.0.0.1", 0)) as taken:
        asyncio.run(look(taken.getsockname()[1]))
    assert "metrics are not served on a port" in caplog.text
