"""Alerts about states of the books, which nobody else writes as events: looked at now and then.

What was told of is kept with the progress of the destinations, so that each state is told once,
and again only where it was over in between. An alert that was raised in the moment of a death may
come twice.
"""

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from schemas.alerts import (
    CaughtUp,
    DeadLetters,
    DeadLettersFound,
    EventsMissing,
    Lag,
    LedgerLagged,
    MissingEvents,
    ModelUnpriced,
    QuotaExhausted,
    SeatQuota,
    UnpricedModel,
)
from schemas.errors import ApiError
from schemas.events import encode_event
from schemas.streams import USAGE, raised_alert_subject
from services.admin.alert_findings import Finding
from services.admin.alert_guardrails import (
    GUARDRAILS_SQL,
    GUARDRAILS_START_SQL,
    guardrail_findings,
)
from services.admin.alert_progress import AlertProgress
from services.admin.ledger_client import LedgerClient
from services.runtime.bus import Bus

__all__ = ["LAG_S_MAX", "LOOK_S", "STATES_SQL", "AlertWatch", "LagWatch", "findings"]

LOOK_S = 15.0
"""The books are looked at so often."""
LAG_S_MAX = 60.0
"""An alert is raised where a message has waited for longer than this, or nobody answers."""
QUERY_TIMEOUT_S = 5.0
_GUARDRAILS = "guardrails"
LISTED_MAX = 100
"""So many models and so many subscriptions are told of."""
STATES_SQL = f"""
    (SELECT 'unpriced' AS what, coalesce(model, response_model, model_name, '') AS name,
            count(*)::BIGINT AS value, NULL AS user_id, NULL AS key_alias, NULL AS team_id,
            NULL AS window_name
     FROM requests
     WHERE unpriced AND started_at > now()::TIMESTAMP - INTERVAL 1 DAY AND total_tokens > 0
         AND endpoint IN ('messages', 'batch_result') AND error_type IS DISTINCT FROM 'lost'
     GROUP BY name ORDER BY value DESC, name LIMIT {LISTED_MAX})
    UNION ALL
    SELECT 'missing', '', coalesce(sum(last_missing - first_missing + 1), 0)::BIGINT,
           NULL, NULL, NULL, NULL FROM gaps
    UNION ALL
    SELECT 'dead', '', count(*)::BIGINT, NULL, NULL, NULL, NULL FROM dead_letters
    UNION ALL
    (SELECT 'quota', seat, epoch_us(last.resets_at), last.user_id, last.key_alias, last.team_id,
            last.representative_claim
     FROM (SELECT seat, arg_max(
               struct_pack(status, resets_at, user_id, key_alias, team_id, representative_claim),
               (observed_at, stream_sequence)) AS last
           FROM quota_observations
           WHERE billing = 'subscription' AND observed_at > now()::TIMESTAMP - INTERVAL 8 DAY
           GROUP BY seat)
     WHERE last.status = 'rejected' AND last.resets_at > now()::TIMESTAMP
     ORDER BY last.resets_at DESC, seat LIMIT {LISTED_MAX})
"""  # noqa: S608 - constants
"""What there is to tell of, one row each: what, its name, a figure, and whose it is."""


def findings(
    rows: Sequence[Sequence[Any]], told: Mapping[str, str]
) -> tuple[list[Finding], dict[str, str]]:
    """Return what is new in rows of STATES_SQL, and what has been told of then. Pure."""
    found: list[Finding] = []
    now: dict[str, str] = {}
    for what, name, value, user_id, key_alias, team_id, window in rows:
        place = f"{what}:{name}" if name else what
        before = told.get(place)
        now[place] = str(value)
        if what == "unpriced" and before is None:
            data = UnpricedModel(model=name, requests=value)
            found.append(Finding(ModelUnpriced, data, name))
        elif what == "missing" and value > int(before or 0):
            lost = MissingEvents(events=value, events_before=int(before or 0))
            found.append(Finding(EventsMissing, lost))
        elif what == "dead" and value > int(before or 0):
            letters = DeadLetters(events=value, events_before=int(before or 0))
            found.append(Finding(DeadLettersFound, letters))
        elif what == "quota" and before != str(value):
            seat = SeatQuota(
                seat=name,
                user_id=user_id,
                key_alias=key_alias,
                team_id=team_id,
                window=window,
                resets_at_us=value,
            )
            found.append(Finding(QuotaExhausted, seat, name))
    return found, now


class LagWatch:
    """Whether the books keep up: from looks at the stream's end and at how far they are. Pure."""

    def __init__(self, *, is_told: bool) -> None:
        self.is_told = is_told
        self._target: tuple[float, int] | None = None

    def look(
        self, now_s: float, last: int, reached: int | None, problem: str | None
    ) -> Finding | None:
        """Take one look in; `reached` None: nobody answers, `problem` says why."""
        if reached is not None and (self._target is None or reached >= self._target[1]):
            self._target = (now_s, last) if reached < last else None
        elif self._target is None:
            self._target = (now_s, last)
        waited_s = now_s - self._target[0] if self._target is not None else 0.0
        messages = max(0, last - (reached if reached is not None else last))
        lag = Lag(messages=messages, waited_s=int(waited_s), problem=problem)
        if waited_s > LAG_S_MAX and not self.is_told:
            self.is_told = True
            return Finding(LedgerLagged, lag)
        if waited_s == 0 and self.is_told and reached is not None:
            self.is_told = False
            return Finding(CaughtUp, lag)
        return None


class AlertWatch:
    """Looks at the books through the reader, and raises what is new as events of ALERT."""

    def __init__(self, bus: Bus, ledger: LedgerClient, progress: AlertProgress) -> None:
        self._bus = bus
        self._ledger = ledger
        self._progress = progress

    async def run(self) -> None:
        """Look for ever. Raises BusError."""
        lag = LagWatch(is_told="lagged" in self._progress.now.told)
        while True:
            await self._look(lag)
            await asyncio.sleep(LOOK_S)

    async def _look(self, lag: LagWatch) -> None:
        last = (await self._bus.stream_state(USAGE.name)).last_sequence
        told = self._progress.now.told
        found: list[Finding] = []
        reached: int | None = None
        problem: str | None = None
        try:
            reply = await self._ledger.query(STATES_SQL, timeout_s=QUERY_TIMEOUT_S)
            found, states = findings(reply.rows, told)
            told = {**await self._guardrails(told, found), **states}
            reached = reply.stream_sequence
        except ApiError as error:
            found, problem = [], error.message
        behind = lag.look(time.monotonic(), last, reached, problem)
        if behind is not None:
            found.append(behind)
        told = {name: value for name, value in told.items() if name != "lagged"}
        if lag.is_told:
            told["lagged"] = "1"
        for finding in found:
            await self._raise(finding)
        if told != self._progress.now.told:
            self._progress.now.told = told
            if found:
                await self._progress.save()

    async def _guardrails(self, told: Mapping[str, str], found: list[Finding]) -> dict[str, str]:
        """Add what guardrails found to the findings; return up to where that is. Raises ApiError.

        The first look only notes where the books are: what was before is old.
        """
        before = told.get(_GUARDRAILS)
        if before is None:
            reply = await self._ledger.query(GUARDRAILS_START_SQL, timeout_s=QUERY_TIMEOUT_S)
            return {_GUARDRAILS: str(reply.rows[0][0])}
        reply = await self._ledger.query(GUARDRAILS_SQL, (int(before),), timeout_s=QUERY_TIMEOUT_S)
        more, reached = guardrail_findings(reply.rows, int(before))
        found += more
        return {_GUARDRAILS: str(reached)}

    async def _raise(self, finding: Finding) -> None:
        event_id = uuid.uuid4().hex
        event = finding.kind(
            source="/admin",
            id=event_id,
            time=datetime.now(UTC),
            subject=finding.subject,
            data=finding.data,
        )
        subject = raised_alert_subject(event_id)
        await self._bus.publish(subject, encode_event(event), message_id=event_id)
