"""Alerts about what guardrails found: summed up, since a pattern can be met by every request."""

from collections.abc import Sequence
from typing import Any

from schemas.alerts import GuardrailHits, GuardrailNoticed
from services.admin.alert_findings import Finding

__all__ = ["GROUPS_MAX", "GUARDRAILS_SQL", "GUARDRAILS_START_SQL", "guardrail_findings"]

GROUPS_MAX = 50
"""So many sums are told of one look, those with the most hits."""
RULES_MAX = 10
GUARDRAILS_SQL = f"""
    SELECT guardrail, kind, action, key_id,
           max(key_alias), max(user_id), max(team_id),
           list_slice(list_sort(list(DISTINCT rule)), 1, {RULES_MAX}),
           sum(hits)::BIGINT AS hits, count(DISTINCT request_id)::BIGINT,
           (SELECT max(stream_sequence) FROM guardrail_events)
    FROM guardrail_events
    WHERE stream_sequence > ?
    GROUP BY guardrail, kind, action, key_id
    ORDER BY hits DESC, guardrail, key_id
    LIMIT {GROUPS_MAX}
"""  # noqa: S608 - constants
"""What was found after a message of USAGE, by guardrail, action and key, and up to which one."""
GUARDRAILS_START_SQL = "SELECT coalesce(max(stream_sequence), 0) FROM guardrail_events"


def guardrail_findings(rows: Sequence[Sequence[Any]], reached: int) -> tuple[list[Finding], int]:
    """Return what to tell of rows of GUARDRAILS_SQL, and up to which message of USAGE then."""
    found = []
    for (
        name,
        kind,
        action,
        key_id,
        key_alias,
        user_id,
        team_id,
        rules,
        hits,
        requests,
        last,
    ) in rows:
        data = GuardrailHits(
            guardrail=name,
            kind=kind,
            action=action,
            rules=tuple(rules),
            hits=hits,
            requests=requests,
            key_id=key_id,
            key_alias=key_alias,
            user_id=user_id,
            team_id=team_id,
        )
        found.append(Finding(GuardrailNoticed, data, name))
        reached = max(reached, last)
    return found, reached
