"""What a worker counts for its metrics: plain numbers, touched once a request."""

from schemas.events import GuardrailHit, UsageRecord
from services.runtime.metrics import Histogram, Sample, sample

__all__ = ["MODELS_MAX", "Counts"]

MODELS_MAX = 100
"""So many names of models are told apart; the clients choose them, and the rest is `other`."""
_OTHER = "other"
_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")


class Counts:
    """Attempts that ended, and refusals, of one worker since its start."""

    def __init__(self) -> None:
        self._ended: dict[tuple[str | None, str, int], int] = {}
        self._models: set[str | None] = set()
        self._refused: dict[tuple[str, int], int] = {}
        self._guarded: dict[tuple[str, str], int] = {}
        self._request_bytes = 0
        self._response_bytes = 0
        self._first_byte = Histogram(0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
        self._duration = Histogram(0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)

    def ended(self, record: UsageRecord) -> None:
        """Count the record of an attempt; results of batches are none."""
        if record.endpoint == "batch_result":
            return
        model = record.model_name
        key = (model, record.status, record.http_status // 100)
        count = self._ended.get(key)
        if count is None:
            if model not in self._models:
                if len(self._models) >= MODELS_MAX:
                    key = (_OTHER, *key[1:])
                else:
                    self._models.add(model)
            count = self._ended.get(key, 0)
        self._ended[key] = count + 1
        self._request_bytes += record.request_bytes
        self._response_bytes += record.response_bytes
        started_at_us = record.started_at_us
        self._duration.observe((record.ended_at_us - started_at_us) / 1e6)
        if record.first_byte_at_us is not None:
            self._first_byte.observe((record.first_byte_at_us - started_at_us) / 1e6)

    def refused(self, reason: str, status: int) -> None:
        """Count a refusal."""
        key = (reason, status)
        self._refused[key] = self._refused.get(key, 0) + 1

    def guarded(self, hit: GuardrailHit) -> None:
        """Count what a guardrail found; their names are those of the configuration."""
        key = (hit.guardrail, hit.action)
        self._guarded[key] = self._guarded.get(key, 0) + sum(each.count for each in hit.findings)

    def samples(self) -> list[Sample]:
        """Return all of it."""
        found = [
            sample("tallygate_requests_total", n, model or "", outcome, _class(hundreds))
            for (model, outcome, hundreds), n in self._ended.items()
        ]
        found += [
            sample("tallygate_refusals_total", n, reason, str(status))
            for (reason, status), n in self._refused.items()
        ]
        found += [
            sample("tallygate_guardrail_findings_total", n, name, action)
            for (name, action), n in self._guarded.items()
        ]
        found.append(sample("tallygate_request_bytes_total", self._request_bytes))
        found.append(sample("tallygate_response_bytes_total", self._response_bytes))
        found += self._first_byte.samples("tallygate_upstream_first_byte_seconds")
        found += self._duration.samples("tallygate_upstream_duration_seconds")
        return found


def _class(hundreds: int) -> str:
    return _CLASSES[hundreds] if 0 <= hundreds < len(_CLASSES) else "none"
