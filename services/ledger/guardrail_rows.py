"""The rows of the table `guardrail_events`: what guardrails found in requests. Pure."""

from typing import Any

from schemas.events import GuardrailHit
from services.ledger.request_rows import Origin, Poison

__all__ = ["guardrail_rows"]


def guardrail_rows(hit: GuardrailHit, origin: Origin) -> list[tuple[Any, ...]]:
    """Return one row for each finding, in the order of GUARDRAIL_COLUMNS. Raises Poison."""
    if not hit.findings:
        raise Poison("a guardrail that was triggered by nothing")
    return [
        (
            hit.found_at_us,
            hit.request_id,
            hit.guardrail,
            hit.kind,
            hit.mode,
            hit.action,
            finding.rule,
            finding.category,
            finding.place,
            finding.count,
            hit.endpoint,
            hit.key_id,
            hit.key_alias,
            hit.user_id,
            hit.team_id,
            hit.model_name,
            hit.session_id,
            *origin,
        )
        for finding in hit.findings
    ]
