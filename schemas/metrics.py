"""The metrics that the services expose, each with its name, kind, labels and meaning.

docs/metrics.md lists them, and a test compares both. Names follow Prometheus' conventions: the
unit last, `_total` for what only grows. Every sample also has the label `part`, the process.
"""

from typing import Literal

import msgspec

__all__ = ["METRICS", "Metric"]

Kind = Literal["counter", "gauge", "histogram"]


class Metric(msgspec.Struct, frozen=True):
    """One metric. `labels` are those beside `part`."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()


def _all(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


METRICS = _all(
    # ------------------------------------------------------------------------ every process
    Metric("tallygate_up", "gauge", "1: the process answered this scrape; 0: it did not."),
    Metric("tallygate_build_info", "gauge", "Always 1; the version is a label.", ("version",)),
    Metric("tallygate_process_start_time_seconds", "gauge", "When the process began (Unix time)."),
    Metric("tallygate_process_cpu_seconds_total", "counter", "CPU time of the process."),
    Metric("tallygate_process_resident_bytes", "gauge", "Memory that the process holds."),
    Metric("tallygate_nats_connected", "gauge", "1 while the connection to NATS is up."),
    Metric(
        "tallygate_nats_disconnected_seconds",
        "gauge",
        "For how long the connection to NATS has been away, and so how old the process's copy of "
        "keys and budgets may be; 0 while it is up.",
    ),
    Metric(
        "tallygate_collect_failures_total",
        "counter",
        "Groups of metrics that could not be read and are missing from a scrape.",
    ),
    # ------------------------------------------------------------------------------- proxy
    Metric(
        "tallygate_requests_total",
        "counter",
        "Attempts at deployments that have ended, by the client's name of the model, how they "
        "ended and the class of the HTTP status (none: no answer).",
        ("model", "outcome", "status_class"),
    ),
    Metric("tallygate_requests_in_flight", "gauge", "Requests under way at deployments."),
    Metric(
        "tallygate_refusals_total",
        "counter",
        "Requests that the gateway refused, by error type and HTTP status.",
        ("reason", "status"),
    ),
    Metric(
        "tallygate_guardrail_findings_total",
        "counter",
        "What guardrails found in requests, by guardrail and action: block, mask, log.",
        ("guardrail", "action"),
    ),
    Metric("tallygate_request_bytes_total", "counter", "Bytes of bodies sent to deployments."),
    Metric("tallygate_response_bytes_total", "counter", "Bytes of bodies that came from them."),
    Metric(
        "tallygate_upstream_first_byte_seconds",
        "histogram",
        "From the start of an attempt to the first byte of its answer's body.",
    ),
    Metric(
        "tallygate_upstream_duration_seconds",
        "histogram",
        "From the start of an attempt to its end.",
    ),
    Metric(
        "tallygate_upstream_connections",
        "gauge",
        "Open connections to deployments: busy, or idle.",
        ("state",),
    ),
    Metric("tallygate_outbox_bytes", "gauge", "Bytes of events that wait to be published."),
    Metric(
        "tallygate_prompts_stored_total",
        "counter",
        "Requests stored word for word.",
    ),
    Metric(
        "tallygate_prompts_left_out_total",
        "counter",
        "Requests that should have been stored word for word and were not.",
    ),
    Metric("tallygate_prompts_waiting_bytes", "gauge", "Their bytes that wait for being stored."),
    Metric("tallygate_outbox_limit_bytes", "gauge", "The setting outbox_bytes_max."),
    Metric("tallygate_outbox_events_total", "counter", "Events written to the outbox."),
    Metric(
        "tallygate_outbox_unwritten_events",
        "gauge",
        "Records held in memory because the disk takes no more.",
    ),
    Metric(
        "tallygate_outbox_events_lost_total",
        "counter",
        "Events lost because disk and the memory set aside for them were full.",
    ),
    Metric(
        "tallygate_rate_limited_total",
        "counter",
        "Requests refused by a rate limit, by whose it is (key, team, user) and what it counts "
        "(requests, tokens, parallel).",
        ("scope", "limit"),
    ),
    Metric(
        "tallygate_rate_limit_workers",
        "gauge",
        "Workers of all proxies that share rate limits, as this one knows them, itself included.",
    ),
    Metric(
        "tallygate_rate_limit_cut_off",
        "gauge",
        "1 while this worker hears nothing of the others and keeps to its share of rate limits.",
    ),
    Metric(
        "tallygate_rate_limit_waits_total",
        "counter",
        "Requests that waited a moment for what other workers say of a rate limit.",
    ),
    Metric(
        "tallygate_budget_waits_total",
        "counter",
        "Requests that waited a moment since requests under way may use up one of their budgets.",
    ),
    Metric(
        "tallygate_budget_no_room_total",
        "counter",
        "Requests refused since requests under way may use up one of their budgets.",
    ),
    Metric(
        "tallygate_quota_paid_requests_total",
        "counter",
        "Requests that an api_key paid since their subscription had no quota left.",
    ),
    Metric(
        "tallygate_quota_unpaid_requests_total",
        "counter",
        "Requests of keys with on_quota_exhausted: pay that nothing could serve.",
    ),
    Metric("tallygate_registry_keys", "gauge", "Virtual keys that the process knows."),
    Metric("tallygate_registry_sequence", "gauge", "The last message of REGISTRY taken in."),
    # ------------------------------------------------------------------------------ ledger
    Metric("tallygate_ledger_sequence", "gauge", "The last message of USAGE in the books."),
    Metric("tallygate_ledger_lag_messages", "gauge", "Messages of USAGE not in the books yet."),
    Metric(
        "tallygate_ledger_lag_seconds",
        "gauge",
        "For how long at least such a message has waited, as seen by scrapes; 0 without any.",
    ),
    Metric("tallygate_ledger_events_total", "counter", "Events counted in these books."),
    Metric(
        "tallygate_ledger_repeats_total",
        "counter",
        "Events that came more than once and were counted once.",
    ),
    Metric("tallygate_ledger_commit_seconds", "histogram", "How long a commit of the books took."),
    Metric(
        "tallygate_ledger_commit_failures_total",
        "counter",
        "Commits that failed and were tried again.",
    ),
    Metric(
        "tallygate_ledger_lost_requests",
        "gauge",
        "Requests that began and whose end never came.",
    ),
    Metric("tallygate_ledger_dead_letters", "gauge", "Events that could not be read."),
    Metric(
        "tallygate_ledger_missing_events",
        "gauge",
        "Events that producers have numbered and that never arrived.",
    ),
    Metric(
        "tallygate_ledger_unpriced_requests",
        "gauge",
        "Requests of a model without a price, which are in no sum.",
        ("model",),
    ),
    Metric(
        "tallygate_quota_seats",
        "gauge",
        "Subscriptions that were heard of in the last eight days; the next three tell of the 100 "
        "heard of last.",
    ),
    Metric(
        "tallygate_quota_status",
        "gauge",
        "Always 1; what the API said of a subscription is a label: allowed, allowed_warning or "
        "rejected.",
        ("seat", "status"),
    ),
    Metric(
        "tallygate_quota_utilization_ratio",
        "gauge",
        "How much of a window of a subscription (five_hour, seven_day) is used: 1 is all of it.",
        ("seat", "window"),
    ),
    Metric(
        "tallygate_quota_reset_time_seconds",
        "gauge",
        "When that window ends (Unix time).",
        ("seat", "window"),
    ),
    Metric(
        "tallygate_parquet_sequence",
        "gauge",
        "Up to which message of USAGE the Parquet files are current; 0: not yet known, or off.",
    ),
    Metric(
        "tallygate_parquet_failures_total",
        "counter",
        "Rounds of writing Parquet files that failed and are tried again.",
    ),
    Metric(
        "tallygate_budget_events_total",
        "counter",
        "Statements about budgets published by this process.",
    ),
    Metric(
        "tallygate_archive_sequence", "gauge", "The last message that was moved to the archive."
    ),
    Metric(
        "tallygate_queries_total",
        "counter",
        "Queries answered, by outcome: ok, refused, invalid, timeout (stopped), cancelled (the "
        "client left), too_large, unavailable.",
        ("outcome",),
    ),
    Metric("tallygate_queries_running", "gauge", "Queries under way, over SQL or Quack."),
    Metric("tallygate_query_seconds", "histogram", "How long queries took."),
    # ------------------------------------------------------------------------------- admin
    Metric(
        "tallygate_admin_requests_total",
        "counter",
        "Answers of the admin service by HTTP status.",
        ("status",),
    ),
    Metric("tallygate_admin_requests_in_flight", "gauge", "Its requests under way."),
    Metric(
        "tallygate_alerts_sent_total",
        "counter",
        "Alerts that reached a destination.",
    ),
    Metric(
        "tallygate_alert_failed_attempts_total",
        "counter",
        "Attempts to send alerts that failed; most are made again.",
    ),
    Metric(
        "tallygate_alerts_undelivered_total",
        "counter",
        "Alerts that were given up: they are on the stream ALERT, and in the log.",
    ),
)
"""All metrics by name."""
