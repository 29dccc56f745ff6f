"""Budgets: where each limit of a key, user, team or of everybody stands, and what is told of it.

A budget here is one limit of one owner: `max_budget` in its window, each further window of
`budget_limits`, each model of `model_max_budget`. `BudgetId` names it.
"""

from decimal import Decimal
from typing import Annotated, Literal, NamedTuple

import msgspec

from schemas.events import Event, Micros, Text
from schemas.prices import PriceOverlay

__all__ = [
    "MARKS_AT_ONCE_MAX",
    "MAX_BUDGET",
    "BudgetCleared",
    "BudgetEvent",
    "BudgetExceeded",
    "BudgetId",
    "BudgetScope",
    "BudgetState",
    "BudgetWarned",
    "Marks",
    "MarksQuestion",
    "MarksTold",
    "Threshold",
    "decode_budget_event",
    "decode_marks",
]

BudgetScope = Literal["key", "user", "team", "member", "global"]
"""Whose budget it is. `member` is a user's in one team; its `scope_id` is the team's id, a slash
and the user's id, where `%` and `/` of the team's id are `%25` and `%2F`. `global` is everybody's
together; its `scope_id` is `all`."""

Threshold = Literal["soft_budget", "80_percent"]
"""What a warning is about: the soft budget is reached, or 80 % of the budget."""

MAX_BUDGET = "max_budget"
"""The `limit` of the budget that `max_budget` and `budget_duration` set."""
MARKS_AT_ONCE_MAX = 1000
"""A message holds the marks of at most so many budgets (about 300 bytes each)."""


class BudgetId(NamedTuple):
    """One limit of one owner: `limit` is `max_budget`, `window-<duration>` or `model-<name>`."""

    scope: BudgetScope
    scope_id: str
    limit: str = MAX_BUDGET


class BudgetState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The standing of one budget, as the ledger computed it from the events.

    `scope` and `scope_id` name whose budget it is, `limit` which of them. `resets_at_us` is the end
    of the window (None: the budget has no window, it never resets by itself). `max_budget_usd` is
    what may be spent now, a temporary increase included; None: there is no limit, or none any more.
    `model`: only requests for model names that match it count. `strict`: nothing may be admitted
    that could pass the limit by more than a request for each proxy worker. `reserved_usd` is what
    requests under way may cost at most, of those that told it (schemas.events.RequestFacts).
    `warned` are the thresholds of this window that were told of, `threshold` is that of a warning
    itself.
    """

    scope: BudgetScope
    scope_id: str
    name: str
    spend_usd: Decimal
    max_budget_usd: Decimal | None = None
    budget_duration: str | None = None
    window_start_us: Micros | None = None
    resets_at_us: Micros | None = None
    limit: Text = MAX_BUDGET
    model: Text | None = None
    soft_budget_usd: Decimal | None = None
    strict: bool = False
    reserved_usd: Decimal = Decimal(0)
    warned: tuple[Threshold, ...] = ()
    threshold: Threshold | None = None

    @property
    def budget_id(self) -> BudgetId:
        """Which budget it is."""
        return BudgetId(self.scope, self.scope_id, self.limit)


class BudgetExceeded(Event, frozen=True, kw_only=True, tag="budget.exceeded.v1"):
    """Spend has reached a budget: its requests are refused until `resets_at_us`."""

    data: BudgetState


class BudgetCleared(Event, frozen=True, kw_only=True, tag="budget.cleared.v1"):
    """A budget that was exceeded or warned of no longer is: reset, raised, removed or repriced.

    `data.warned` are the warnings that still hold.
    """

    data: BudgetState


class BudgetWarned(Event, frozen=True, kw_only=True, tag="budget.warned.v1"):
    """Spend has reached a soft budget, or 80 % of a budget: once in a window for each of them."""

    data: BudgetState


class Marks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where budgets stand, and up to which message of USAGE their spend counts.

    `usage_sequence` holds for every budget there is: those that are not in `marks` stand where they
    did. `gone` are budgets that there are no more. `more`: further ones can be asked for. `prices`
    are the entries set through the management API, by which requests to come are reckoned with;
    None: those that were told last.
    """

    usage_sequence: Annotated[int, msgspec.Meta(ge=0)]
    marks: tuple[BudgetState, ...] = ()
    gone: tuple[BudgetId, ...] = ()
    more: bool = False
    prices: tuple[PriceOverlay, ...] | None = None


class MarksTold(Event, frozen=True, kw_only=True, tag="marks.told.v1"):
    """Where budgets stand now. It is told to who listens and kept by nobody.

    The `source` is one life of the ledger's writer, which numbers what it tells from 1 without
    gaps (`id`). Who missed a number asks for all marks.
    """

    data: Marks


class MarksQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Asks the ledger's writer for all marks, in the order of their ids: those after `after`."""

    after: BudgetId | None = None


BudgetEvent = BudgetExceeded | BudgetCleared | BudgetWarned

_budget_decoder: msgspec.json.Decoder[BudgetEvent] = msgspec.json.Decoder(BudgetEvent)
_marks_decoder: msgspec.json.Decoder[MarksTold] = msgspec.json.Decoder(MarksTold)


def decode_budget_event(payload: bytes) -> BudgetEvent:
    """Return an event of BUDGET. Raises msgspec.DecodeError or UnicodeDecodeError."""
    return _budget_decoder.decode(payload)


def decode_marks(payload: bytes) -> MarksTold:
    """Return what was told of marks. Raises msgspec.DecodeError or UnicodeDecodeError."""
    return _marks_decoder.decode(payload)
