"""May this key make this request now? Pure rules over the snapshot in memory."""

from collections.abc import Sequence
from datetime import UTC, datetime

from schemas.budgets import MAX_BUDGET, BudgetState
from schemas.errors import BudgetSpent, Forbidden
from schemas.events import time_from_us
from schemas.money import usd_text
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from services.proxy.routing import names_allowed
from services.runtime.key_routes import is_allowed, routes_refusal

__all__ = [
    "RETRY_AFTER_S",
    "budget_refusal",
    "check_key",
    "check_model",
    "check_owner",
    "check_route",
    "is_exceeded",
    "meant_model",
    "named",
]

RETRY_AFTER_S = 3600
"""`retry-after` of a budget that never resets. Above 60 s Claude Code does not wait (measured)."""

_PERIODS = {
    "1d": "daily",
    "24h": "daily",
    "daily": "daily",
    "7d": "weekly",
    "1w": "weekly",
    "weekly": "weekly",
    "30d": "monthly",
    "1mo": "monthly",
    "monthly": "monthly",
}


def _named(record: KeyRecord) -> str:
    return record.key_alias or record.key_name


def _owner_named(owner: TeamRecord | UserRecord) -> str:
    if isinstance(owner, TeamRecord):
        return f"team {owner.team_alias or owner.team_id}"
    return f"user {owner.user_alias or owner.user_id}"


def check_key(record: KeyRecord, now_us: int) -> None:
    """Raise Forbidden where the key is blocked or its time is over."""
    if record.blocked:
        raise Forbidden(
            f"The virtual key {_named(record)} is blocked. Ask your administrator to unblock it"
        )
    if record.expires_at_us is not None and now_us >= record.expires_at_us:
        expired = time_from_us(record.expires_at_us).strftime("%Y-%m-%d %H:%M UTC")
        raise Forbidden(
            f"The virtual key {_named(record)} expired on {expired}. "
            "Ask your administrator for a new one"
        )


def check_owner(record: KeyRecord, owner: TeamRecord | UserRecord) -> None:
    """Raise Forbidden where the team or user that the key belongs to is blocked or deleted."""
    if not owner.blocked and not owner.deleted:
        return
    named = _owner_named(owner)
    if owner.deleted:
        raise Forbidden(
            f"The virtual key {_named(record)} belongs to the {named}, which was deleted. "
            "Ask your administrator for a new key"
        )
    raise Forbidden(
        f"The {named}, to which the virtual key {_named(record)} belongs, is blocked. "
        "Ask your administrator to unblock it"
    )


def check_route(record: KeyRecord, method: str, path: str) -> None:
    """Raise Forbidden where the key may not call this path of the API."""
    if not is_allowed(record.allowed_routes, method, path):
        raise Forbidden(routes_refusal(_named(record), record.allowed_routes, method, path))


def meant_model(record: KeyRecord, model_name: str) -> str:
    """Return the model name that a key's alias stands for, any other name as it is."""
    return record.aliases.get(model_name, model_name)


def check_model(
    record: KeyRecord,
    model_name: str,
    target: str | None = None,
    owners: Sequence[TeamRecord | UserRecord] = (),
    asked: str | None = None,
) -> None:
    """Raise Forbidden where the key, or one of its owners, may not use a model.

    Each may where its `models` has the name, or what the name is an alias for. The key may also
    where it has the name that was `asked` for, its own alias; the aliases of a key bind its owners
    to nothing, since a user may make keys.
    """
    if not _may_use(record.models, model_name, target) and (
        asked is None or not names_allowed(record.models, asked)
    ):
        raise Forbidden(
            f"The virtual key {_named(record)} may not use the model {model_name[:100]!r}. "
            f"It may use: {', '.join(record.models)}"
        )
    for owner in owners:
        if owner.models and not _may_use(owner.models, model_name, target):
            raise Forbidden(
                f"The {_owner_named(owner)}, to which the virtual key {_named(record)} belongs, "
                f"may not use the model {model_name[:100]!r}. It may use: {', '.join(owner.models)}"
            )


def _may_use(models: Sequence[str], model_name: str, target: str | None) -> bool:
    return names_allowed(models, model_name) or (
        target is not None and names_allowed(models, target)
    )


def is_exceeded(state: BudgetState | None, now_us: int) -> bool:
    """Tell whether a budget that the ledger declared exceeded still is, by this clock."""
    if state is None:
        return False
    return state.resets_at_us is None or now_us < state.resets_at_us


def named(state: BudgetState) -> str:
    """Return what people call a budget: whose it is, and which of several."""
    text = (
        "budget of everybody"
        if state.scope == "global"
        else f"budget of {state.scope} {state.name}"
    )
    if state.model is not None:
        return f"{text} for {state.model}"
    if state.limit != MAX_BUDGET and state.budget_duration is not None:
        return f"{text} per {state.budget_duration}"
    return text


def budget_refusal(state: BudgetState, now_us: int, what_to_do: str) -> BudgetSpent:
    """Return the refusal of a spent budget.

    Its form is that of Anthropic's own gateway: with the overage-disabled-reason header Claude
    Code shows the message verbatim after one request (measured with 2.1.330); neither
    representative-claim nor overage-status may be there, they would replace the message.
    """
    headers = {
        "x-should-retry": "false",
        "retry-after": str(RETRY_AFTER_S),
        "anthropic-ratelimit-unified-status": "rejected",
        "anthropic-ratelimit-unified-overage-utilization": "1",
        "anthropic-ratelimit-unified-overage-surpassed-threshold": "1",
        "anthropic-ratelimit-unified-overage-disabled-reason": "org_spend_cap_reached",
    }
    period = _PERIODS.get(state.budget_duration or "")
    if period is not None:
        headers["anthropic-ratelimit-unified-overage-period"] = period
    maximum = usd_text(state.max_budget_usd) if state.max_budget_usd is not None else "none"
    spend = usd_text(state.spend_usd)
    parts = [f"B{named(state)[1:]} used up ({spend} of {maximum})"]
    if state.resets_at_us is not None:
        resets_s = -(-state.resets_at_us // 1_000_000)
        headers["retry-after"] = str(max(1, -(-(state.resets_at_us - now_us) // 1_000_000)))
        headers["anthropic-ratelimit-unified-reset"] = str(resets_s)
        headers["anthropic-ratelimit-unified-overage-reset"] = str(resets_s)
        parts.append(f"resets {_reset_text(resets_s, now_us)}")
    if what_to_do:
        parts.append(what_to_do)
    return BudgetSpent(" · ".join(parts), headers)


def _reset_text(resets_s: int, now_us: int) -> str:
    """Return the time of a reset for people: "Dec 1", or "14:05 UTC" where it is today."""
    resets = datetime.fromtimestamp(resets_s, UTC)
    if resets_s * 1_000_000 - now_us < 24 * 3600 * 1_000_000:
        return resets.strftime("%b %-d %H:%M UTC")
    return resets.strftime("%b %-d")
