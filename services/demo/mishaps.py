"""What goes wrong in the made-up history: errors of the API, refusals, what guardrails found. Pure.

The texts are those that the gateway itself writes for such cases.
"""

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from schemas.events import GuardrailHit, Rejection, RequestFacts, UsageRecord
from schemas.guardrails import GuardrailFinding
from services.demo import ids
from services.demo.people import OPUS, KeyPlan

__all__ = ["GUARDRAILS", "budget_refusals", "failed", "guarded", "refused"]

_ERRORS = (
    (529, "overloaded_error", 0.5),
    (429, "rate_limit_error", 0.2),
    (500, "api_error", 0.1),
    (400, "invalid_request_error", 0.1),
    (200, "client_closed", 0.1),
)
_FAILURE_SHARE = 0.016
_REFUSED_SHARE = 0.008
_MASKED_SHARE = 0.006
_QUICK_US = 40_000
_CLIENT_LEFT = "the client left before the answer was whole: its output is an estimate"

GUARDRAILS = (
    ("secrets", "secrets", "mask", "aws-access-token", "secrets"),
    ("secrets", "secrets", "mask", "github-pat", "secrets"),
    ("customer data", "personal_data", "log", "email", "personal_data"),
    ("customer data", "personal_data", "log", "iban", "personal_data"),
    ("project names", "block_list", "block", "project-names", "confidential"),
)
"""Name, kind, action, rule and category, as services.demo.settings configures them."""


def failed(rng: random.Random, record: UsageRecord) -> UsageRecord:
    """Return the request as it came, or, now and then, as one that the API failed."""
    if rng.random() >= _FAILURE_SHARE:
        return record
    statuses = [(status, kind) for status, kind, _ in _ERRORS]
    status, kind = rng.choices(statuses, [weight for *_, weight in _ERRORS])[0]
    if kind == "client_closed":
        assert record.usage is not None
        output = max(1, record.usage.output_tokens // 3)
        return msgspec.structs.replace(
            record,
            status="client_closed",
            stop_reason=None,
            usage=msgspec.structs.replace(record.usage, output_tokens=output),
            estimated=True,
            estimate_basis=_CLIENT_LEFT,
        )
    assert record.first_byte_at_us is not None
    return msgspec.structs.replace(
        record,
        status="failure",
        http_status=status,
        error_type=kind,
        usage=None,
        response_model=None,
        message_id=None,
        stop_reason=None,
        ended_at_us=record.first_byte_at_us + rng.randint(900, 4000),
        response_bytes=168,
    )


def refused(
    rng: random.Random, plan: KeyPlan, record: UsageRecord
) -> Iterator[Rejection | GuardrailHit]:
    """Yield, now and then, a request beside this one that the gateway itself refused."""
    if rng.random() >= _REFUSED_SHARE:
        return
    facts = _facts(record)
    facts["request_id"] = ids.request_id(rng, record.started_at_us)
    facts |= {"model": None, "deployment": None, "billing": "api"}
    choice = rng.random()
    alias = record.key_alias
    if choice < 0.3:
        yield from _blocked(rng, facts)
    elif choice < 0.6 and plan.rpm_limit is not None:
        reason = (
            f"Rate limit of key {alias}: {plan.rpm_limit} requests per minute. Try again in 9 s"
        )
        yield _rejection(rng, facts, 429, "rate_limit_error", reason)
    elif choice < 0.85 and plan.allowed:
        facts["model_name"] = OPUS
        reason = (
            f"The virtual key {alias} may not use the model '{OPUS}'. It may use: "
            f"{', '.join(plan.allowed)}"
        )
        yield _rejection(rng, facts, 403, "permission_error", reason)
    else:
        facts |= dict.fromkeys(("key_id", "key_alias", "user_id", "team_id", "session_id"))
        reason = (
            "The virtual key is not known: it was mistyped, deleted or replaced, or belongs to "
            "another gateway. Check it with GET /key/info, or ask your administrator for a new one"
        )
        yield _rejection(rng, facts, 401, "authentication_error", reason)


def budget_refusals(
    rng: random.Random, record: UsageRecord, count: int, reason: str, until_us: int
) -> Iterator[Rejection]:
    """Yield refusals after a request since its key's budget is used up, up to a moment."""
    span_us = max(1, until_us - record.ended_at_us)
    for index in range(count):
        started_at_us = record.ended_at_us + span_us * (index + 1) // (count + 1)
        facts = _facts(record) | {
            "request_id": ids.request_id(rng, started_at_us),
            "started_at_us": started_at_us,
            "model": None,
            "deployment": None,
        }
        yield _rejection(rng, facts, 429, "billing_error", reason)


def guarded(rng: random.Random, record: UsageRecord) -> Iterator[GuardrailHit]:
    """Yield, now and then, what a guardrail found in a request that went on."""
    if rng.random() >= _MASKED_SHARE:
        return
    rules = [
        rule
        for rule in GUARDRAILS
        # One of them holds for a team alone.
        if rule[2] != "block" and (rule[0] != "customer data" or record.team_id == "data")
    ]
    name, kind, action, rule, category = rng.choice(rules)
    finding = GuardrailFinding(
        rule=rule, category=category, place=_place(rng), count=rng.choice((1, 1, 1, 2, 3))
    )
    yield _hit(_facts(record), name, kind, action, finding)


def _blocked(rng: random.Random, facts: dict[str, Any]) -> Iterator[Rejection | GuardrailHit]:
    name, kind, action, rule, category = GUARDRAILS[-1]
    finding = GuardrailFinding(rule=rule, category=category, place=_place(rng))
    yield _hit(facts, name, kind, action, finding)
    reason = (
        f"Blocked by the guardrail {name}: {category} ({rule}) in {finding.place} · names of "
        "projects that are not announced stay in the house"
    )
    yield _rejection(rng, facts, 403, "permission_error", reason)


def _hit(
    facts: dict[str, Any], name: str, kind: str, action: str, finding: GuardrailFinding
) -> GuardrailHit:
    return GuardrailHit(
        **facts,
        found_at_us=facts["started_at_us"] + 1200,
        guardrail=name,
        kind=kind,
        mode="pre_call",
        action=action,
        findings=(finding,),
    )


def _rejection(
    rng: random.Random, facts: dict[str, Any], status: int, error_type: str, reason: str
) -> Rejection:
    return Rejection(
        **facts,
        ended_at_us=facts["started_at_us"] + rng.randint(300, _QUICK_US),
        http_status=status,
        error_type=error_type,
        reason=reason,
    )


def _place(rng: random.Random) -> str:
    return f"messages[{rng.randrange(40)}].content[{rng.randrange(3)}]"


def _facts(record: RequestFacts) -> dict[str, Any]:
    return {name: getattr(record, name) for name in RequestFacts.__struct_fields__}
