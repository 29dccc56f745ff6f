"""The metrics of a whole gateway: what was sent through it is what a scraper reads."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from schemas.metrics import METRICS
from tests.support.gateway import CONFIG, Gateway, wait_until
from tests.support.mock import MockAnthropic
from tests.support.ports import free_port
from tests.support.receivers import Received, http_receiver

DEADLINE_S = 60.0
UNKNOWN = "claude-unknown-9"
LEDGER = ("ledger-writer", "ledger-reader")
EVENTS = 20
"""Two for each request that is sent, one for each refusal, one for what a guardrail found."""
GUARDRAILS = """
guardrails:
  - guardrail_name: watch
    litellm_params: {guardrail: request_rules, mode: logging_only, max_tokens_max: 1}
"""
PARTS = {"admin", "ledger-reader", "ledger-writer", "proxy-0", "proxy-1"}


@dataclass
class Scrape:
    """What one scrape told: series as they were written, and their numbers."""

    series: dict[str, float]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of a metric over all series that have these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            value
            for series, value in self.series.items()
            if series.startswith(name + "{") and all(each in series for each in wanted)
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("metrics")


@pytest.fixture
def log(folder: Path) -> Path:
    return folder / "gateway.log"


@pytest.fixture(scope="module")
def metrics_url(folder: Path) -> Iterator[str]:
    """Run a gateway with two workers, send it all kinds of requests, give where metrics are."""
    address = f"127.0.0.1:{free_port()}"
    with (
        pytest.MonkeyPatch.context() as environment,
        MockAnthropic.started(folder) as mock,
        http_receiver() as hook,
    ):
        environment.setenv("TALLYGATE_METRICS", address)
        alerts = f"alerts:\n  - {{name: hook, webhook: {{url: '{hook.url}/hook'}}}}\n"
        (folder / "config.yaml").write_text(CONFIG.format(api_base=mock.url) + GUARDRAILS + alerts)
        with Gateway.started(folder, mock, workers=2) as gateway:
            while not hook.at("/hook"):  # From then on it is told of what happens.
                assert gateway.admin("POST", "/alerts/test")["destinations"] == ["hook"]
                time.sleep(0.02)
            _use(gateway)
            hook.wait("/hook", lambda found: any(map(_is_about_poor, found)))
            yield f"http://{address}/metrics"


def _use(gateway: Gateway) -> None:
    key = gateway.new_key(key_alias="watched")
    poor = gateway.new_key(key_alias="poor", max_budget=0.000001, guardrails=["watch"])
    for _ in range(6):
        assert gateway.ask(key).status_code == 200
    assert gateway.ask(key, model=UNKNOWN).status_code == 200
    assert gateway.ask(poor).status_code == 200
    for number in range(3):
        assert gateway.ask(f"sk-nobody-{number}").status_code == 401
    rows = "SELECT count(*) FROM requests WHERE status = 'success'"
    wait_until(lambda: gateway.sql(rows) == [[8]], DEADLINE_S, "the requests are in the books")
    refused = gateway.client.post(
        "/ledger/sql",
        json={"query": "SELECT * FROM read_csv('/etc/passwd')"},
        headers={"Authorization": "Bearer sk-master-of-the-tests-0123456789"},
    )
    assert refused.status_code >= 400


def _is_about_poor(alert: Received) -> bool:
    event = alert.json
    return bool(event["type"] == "budget.exceeded.v1" and event["data"]["name"] == "poor")


def scrape(url: str) -> Scrape:
    text = httpx.get(url, timeout=30, trust_env=False).text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return Scrape({line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines})


def test_sums_over_all_workers_are_what_was_sent(metrics_url: str) -> None:
    # Given 8 requests, of which one's model has no price, 3 refusals and a refused query, when the
    # port is scraped, then all parts are up and each sum is exactly that.
    def told() -> Scrape | None:
        found = scrape(metrics_url)
        is_counted = found.total("tallygate_ledger_unpriced_requests", model=UNKNOWN) == 1
        is_said = found.total("tallygate_budget_events_total", part="ledger-writer") >= 1
        events = [found.total("tallygate_ledger_events_total", part=part) for part in LEDGER]
        is_whole = min(events) >= EVENTS and found.total("tallygate_outbox_bytes") == 0
        is_up = found.total("tallygate_nats_connected") == len(PARTS)
        return found if is_counted and is_said and is_whole and is_up else None

    found = wait_until(told, DEADLINE_S, "all is published, taken in and told")
    assert {series for series in found.series if series.startswith("tallygate_up{")} == {
        f'tallygate_up{{part="{part}"}}' for part in PARTS
    }
    assert found.total("tallygate_up") == len(PARTS)
    assert found.total("tallygate_requests_total", status_class="2xx", outcome="success") == 8
    assert found.total("tallygate_requests_total", model="anthropic-claude") == 7
    assert found.total("tallygate_requests_in_flight") == 0
    assert found.total("tallygate_upstream_first_byte_seconds_count") == 8
    assert found.total("tallygate_refusals_total", status="401") == 3
    assert found.total("tallygate_outbox_events_total") == EVENTS
    assert found.total("tallygate_guardrail_findings_total", guardrail="watch", action="log") == 1
    for part in LEDGER:
        assert found.total("tallygate_ledger_events_total", part=part) == EVENTS
        assert found.total("tallygate_ledger_lag_messages", part=part) == 0
    assert found.total("tallygate_queries_total", outcome="refused") == 1
    assert found.total("tallygate_alerts_sent_total") >= 2
    assert found.total("tallygate_alerts_undelivered_total") == 0


def test_workers_of_one_gateway_know_one_another_for_rate_limits(metrics_url: str) -> None:
    # Given two workers that may speak on NATS as services do, then each counts both.
    def know_one_another() -> bool:
        found = scrape(metrics_url)
        workers = found.total("tallygate_rate_limit_workers")
        return (workers, found.total("tallygate_rate_limit_cut_off")) == (4, 0)

    wait_until(know_one_another, DEADLINE_S, "the workers know one another")


def test_the_services_expose_each_metric_and_no_other(metrics_url: str) -> None:
    # Given a gateway that was used in all ways, when it is scraped, then every metric of the table
    # has a series, with the labels that the table says, and nothing else has one.
    found = scrape(metrics_url)
    names: dict[str, set[str]] = {}
    for series in found.series:
        name, _, labels = series.partition("{")
        base = name if name in METRICS else re.sub(r"_(bucket|sum|count)$", "", name)
        names.setdefault(base, set()).update(re.findall(r'(\w+)="', labels))
    assert names.keys() == METRICS.keys()
    for name, labels in names.items():
        assert labels - {"part", "le"} == set(METRICS[name].labels), name


def test_a_model_without_a_price_is_told_once_in_the_log(metrics_url: str, log: Path) -> None:
    # Given the request of a model that no price is known of, then the log has one warning that
    # names it and says what to do, and none for the models that have prices.
    assert scrape(metrics_url).total("tallygate_ledger_unpriced_requests") == 1
    lines = [line for line in log.read_text().splitlines() if "have no price" in line]
    assert len(lines) == 1
    assert UNKNOWN in lines[0]
    assert "prices:" in lines[0]
