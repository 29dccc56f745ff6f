"""Requests without a price: told once a model, with what to do, and counted for the metrics."""

import logging
from collections.abc import Sequence
from typing import Any

from services.ledger.request_rows import LOST_UNPRICED, PASS_THROUGH_UNPRICED, RESULT_UNPRICED
from services.ledger.rows import REQUEST_COLUMNS

__all__ = ["MODELS_MAX", "NOT_BY_PRICES", "UNPRICED_BY_MODEL", "UnpricedAlarm"]

log = logging.getLogger(__name__)

MODELS_MAX = 100
"""So many models are told of, and named in the metrics (those with the most requests first)."""
NOT_BY_PRICES = (LOST_UNPRICED, PASS_THROUGH_UNPRICED, RESULT_UNPRICED)
"""Reasons for which there is no price, and which no entry of `prices:` would change."""
UNPRICED_BY_MODEL = (
    "SELECT coalesce(model, response_model, model_name, '') AS name, count(*) FROM requests "  # noqa: S608 - constants
    f"WHERE unpriced AND unpriced_reason NOT IN {NOT_BY_PRICES} "
    f"GROUP BY name ORDER BY count(*) DESC, name LIMIT {MODELS_MAX}"
)
"""The models whose requests lack a price, with how many these are."""

_NAMES = [name for name, _ in REQUEST_COLUMNS]
_REASON = _NAMES.index("unpriced_reason")
_MODELS = tuple(_NAMES.index(name) for name in ("model", "response_model", "model_name"))
_REQUEST = _NAMES.index("request_id")


class UnpricedAlarm:
    """Warns of each model without a price, once in the life of the process."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def look_at(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Look at rows of requests that were committed."""
        for row in rows:
            reason = row[_REASON]
            if reason is not None and reason not in NOT_BY_PRICES:
                self._tell(row, reason)

    def _tell(self, row: tuple[Any, ...], reason: str) -> None:
        model = next((row[at] for at in _MODELS if row[at]), "")
        if model in self._told or len(self._told) >= MODELS_MAX:
            return
        self._told.add(model)
        log.warning(
            "requests of the model %r have no price (%s; %s is one): they are in no sum of costs "
            "and count for no budget. Give its price under `prices:` of the configuration, or by "
            "POST /price/update, then `tallygate reprice`; `tallygate doctor` prints the lines",
            model,
            reason,
            row[_REQUEST],
        )
