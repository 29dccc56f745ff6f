"""What /key/reset_spend takes and answers, by LiteLLM's names."""

from datetime import datetime
from decimal import Decimal

import msgspec

from services.admin.bodies import KeyText

__all__ = ["ResetKeySpend", "ResetNamedKeySpend", "SpendOfKeyReset"]


class ResetNamedKeySpend(msgspec.Struct, frozen=True, kw_only=True):
    """POST /key/{key}/reset_spend: what the key's spend is from now on, in US dollars."""

    reset_to: Decimal


class ResetKeySpend(ResetNamedKeySpend, frozen=True, kw_only=True):
    """POST /key/reset_spend: the same, and which key (raw, its SHA-256, or its key id)."""

    key: KeyText


class SpendOfKeyReset(msgspec.Struct, frozen=True, kw_only=True):
    """What the spend of a key is now, and what it was in the same window of its budget."""

    key_id: str
    key_hash: str
    spend: Decimal
    previous_spend: Decimal
    max_budget: Decimal | None
    budget_reset_at: datetime | None
