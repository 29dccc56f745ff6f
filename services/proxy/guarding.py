"""Has requests pass their guardrails, and tells what those found."""

from collections.abc import Callable, Sequence

import msgspec

from schemas.errors import BadRequest
from schemas.events import GuardrailHit
from schemas.guardrails import FINDINGS_MAX, Guardrail, GuardrailFinding
from services.proxy.draft import Draft, now_us
from services.proxy.guards import blocked
from services.proxy.headers import RawHeaders
from services.proxy.json_members import members_of
from services.proxy.request_rules import broken_rule

__all__ = ["Guarding"]

_RULES_PLACE = {"tools_denied": "tools", "betas_allowed": "headers", "system_required": "system"}


class Guarding:
    """The guardrails at work in one worker. `report` is told what they find, before it counts."""

    def __init__(self, report: Callable[[GuardrailHit], None]) -> None:
        self._report = report

    def check(
        self, guardrails: Sequence[Guardrail], draft: Draft, headers: RawHeaders, body: bytes
    ) -> None:
        """Have a request pass its guardrails. Raises Forbidden where one blocks it.

        Raises BadRequest where its body could mean two things.
        """
        if draft.endpoint != "messages":
            return
        try:
            members = members_of(body)
        except (ValueError, RecursionError, msgspec.MsgspecError):
            raise BadRequest(
                "The request body must have each key once, spelled without escapes: it is checked "
                "by a guardrail"
            ) from None
        for guardrail in guardrails:
            violation = broken_rule(guardrail.rules, headers, body, members)
            if violation is None:
                continue
            rule = violation.rule
            place = _RULES_PLACE.get(rule, "body")
            finding = GuardrailFinding(rule=rule, category="request_rules", place=place)
            self._tell(guardrail, draft, [finding])
            if guardrail.action == "block":
                raise blocked(guardrail, violation.reason)

    def _tell(self, guardrail: Guardrail, draft: Draft, found: Sequence[GuardrailFinding]) -> None:
        facts = msgspec.structs.asdict(draft.facts())
        self._report(
            GuardrailHit(
                **facts,
                found_at_us=max(now_us(), draft.started_at_us),
                guardrail=guardrail.name,
                kind=guardrail.kind,
                mode=guardrail.modes[0],
                action=guardrail.action,
                findings=_told(found),
            )
        )


def _told(found: Sequence[GuardrailFinding]) -> tuple[GuardrailFinding, ...]:
    """Return findings as an event may hold them."""
    if len(found) <= FINDINGS_MAX:
        return tuple(found)
    left = sum(each.count for each in found[FINDINGS_MAX:])
    others = GuardrailFinding(rule="others", category="others", place="", count=left)
    return (*found[:FINDINGS_MAX], others)
