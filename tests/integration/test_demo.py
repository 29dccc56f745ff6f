"""`tallygate demo`: the books say of its history just what the generator says."""

from decimal import Decimal
from pathlib import Path

from tests.support.demo import Demo
from tests.support.gateway import wait_until

SUMS = """
SELECT count(*),
       count(*) FILTER (status = 'refused'),
       count(*) FILTER (status NOT IN ('success', 'refused')),
       (SELECT count(*) FROM guardrail_events),
       count(DISTINCT session_id),
       sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),
       sum(cache_write_5m_tokens + cache_write_1h_tokens),
       sum(cost_usd)
FROM requests
"""


def test_demo_books_what_it_made_up_and_goes_on_when_it_is_started_again(tmp_path: Path) -> None:
    # Given a small demo, when the ledger is asked, then every sum is the generator's own.
    folder = tmp_path / "demo"
    with Demo.started(folder, requests=300) as demo:
        first = demo.state
        *counts, cost = demo.sql(SUMS)[0]
        totals = first.totals
        assert [int(each) for each in counts] == [
            300,
            totals.refused,
            totals.failed,
            totals.findings,
            totals.sessions,
            totals.input_tokens,
            totals.output_tokens,
            totals.cache_read_tokens,
            totals.cache_write_tokens,
        ]
        assert Decimal(cost) == totals.cost_usd

        # And whoever is to be told of that is told.
        alerts = demo.admin("GET", "/alerts")
        assert [each["name"] for each in alerts["destinations"]] == ["chat", "audit-log"]
        assert alerts["undelivered"] == []

        # And there is one budget exceeded, nothing unpriced, and an audit of it all.
        exceeded = "SELECT DISTINCT name FROM budget_events WHERE event = 'exceeded'"
        wait_until(lambda: demo.sql(exceeded) == [["diego-devbox"]], 30, "its budget is exceeded")
        assert demo.sql("SELECT count(*) FROM requests WHERE unpriced") == [[0]]
        changes = "SELECT DISTINCT object_type || ' ' || action FROM registry_changes"
        kinds = {kind for (kind,) in demo.sql(changes)}
        assert kinds >= {"key created", "key blocked", "key rotated", "team updated"}
        assert demo.stop() == 0

    # When it is started again, with requests that go on, then the same keys work and it moves.
    with Demo.started(folder, per_minute=600) as again:
        assert again.state.secrets == first.secrets
        newer = "SELECT count(*) FROM requests WHERE producer <> 'demo-history'"
        wait_until(lambda: again.sql(newer)[0][0] >= 3, 60, "requests go on")
        assert again.sql("SELECT count(*) FROM requests WHERE producer = 'demo-history'") == [[300]]
