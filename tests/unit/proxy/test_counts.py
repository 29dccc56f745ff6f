"""What a worker counts of its requests."""

from typing import Any

from schemas.events import UsageRecord
from services.proxy.counts import MODELS_MAX, Counts
from services.runtime.metrics import rendered


def record(**fields: Any) -> UsageRecord:
    given: dict[str, Any] = {
        "request_id": "tg_1",
        "started_at_us": 1_000_000,
        "ended_at_us": 3_000_000,
        "first_byte_at_us": 1_400_000,
        "endpoint": "messages",
        "model_name": "m",
        "status": "success",
        "http_status": 200,
        "request_bytes": 10,
        "response_bytes": 100,
    }
    return UsageRecord(**{**given, **fields})


def lines(counts: Counts) -> list[str]:
    return rendered("p", counts.samples()).splitlines()


def test_attempts_are_counted_by_model_outcome_and_class() -> None:
    # Given attempts that went well, failed with and without an answer, and a batch's result, then
    # the first three are counted, with their bytes and times, and the result, which no deployment
    # was asked for, is not.
    counts = Counts()
    counts.ended(record())
    counts.ended(record())
    counts.ended(record(status="failure", http_status=529))
    counts.ended(record(status="failure", http_status=0, first_byte_at_us=None))
    counts.ended(record(endpoint="batch_result"))
    found = lines(counts)
    labels = 'tallygate_requests_total{part="p",model="m",outcome='
    assert labels + '"success",status_class="2xx"} 2' in found
    assert labels + '"failure",status_class="5xx"} 1' in found
    assert labels + '"failure",status_class="none"} 1' in found
    assert 'tallygate_request_bytes_total{part="p"} 40' in found
    assert 'tallygate_response_bytes_total{part="p"} 400' in found
    assert 'tallygate_upstream_first_byte_seconds_bucket{part="p",le="0.25"} 0' in found
    assert 'tallygate_upstream_first_byte_seconds_bucket{part="p",le="0.5"} 3' in found
    assert 'tallygate_upstream_duration_seconds_count{part="p"} 4' in found


def test_names_that_clients_make_up_do_not_fill_the_memory() -> None:
    # Given more names of models than are told apart, then the first keep their own counts and all
    # others are counted together.
    counts = Counts()
    for number in range(MODELS_MAX + 50):
        counts.ended(record(model_name=f"m{number}"))
    counts.ended(record(model_name="m0"))
    found = [line for line in lines(counts) if line.startswith("tallygate_requests_total")]
    assert len(found) == MODELS_MAX + 1
    assert any('model="other"' in line and line.endswith(" 50") for line in found)
    assert any('model="m0"' in line and line.endswith(" 2") for line in found)


def test_refusals_are_counted_by_reason_and_status() -> None:
    # Given refusals, then each reason has its own count.
    counts = Counts()
    for status in (401, 401, 403):
        counts.refused("authentication_error" if status == 401 else "permission_error", status)
    found = lines(counts)
    series = 'tallygate_refusals_total{part="p",reason='
    assert series + '"authentication_error",status="401"} 2' in found
    assert series + '"permission_error",status="403"} 1' in found
