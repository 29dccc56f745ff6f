"""Alerts: what may be told to people, to whom, and the events that exist for that alone.

Most alerts are events that others wrote (`budget.exceeded.v1`, `key.blocked.v1`, …). What nobody
else writes, since it is a state of the books and no change of anything, are the events of this
module. They are on the stream ALERT, as is what could not be delivered.
"""

from typing import Any, Literal

import msgspec

from schemas.events import Event, Micros, Text

__all__ = [
    "ALERT_TYPES",
    "ALERT_TYPES_DEFAULT",
    "AlertDestination",
    "AlertEvent",
    "AlertTested",
    "AlertTrial",
    "AlertUndelivered",
    "CaughtUp",
    "DeadLetters",
    "DeadLettersFound",
    "EmailSettings",
    "EventsMissing",
    "GuardrailHits",
    "GuardrailNoticed",
    "Lag",
    "LedgerLagged",
    "MissingEvents",
    "ModelUnpriced",
    "QuotaExhausted",
    "SeatQuota",
    "Undelivered",
    "UnpricedModel",
    "decode_alert_event",
]

ALERT_TYPES = (
    *("budget.warned", "budget.exceeded", "budget.cleared"),
    *("key.created", "key.updated", "key.blocked", "key.unblocked", "key.rotated", "key.deleted"),
    *("team.created", "team.updated", "team.blocked", "team.unblocked", "team.deleted"),
    *("user.created", "user.updated", "user.deleted"),
    *("model.created", "model.updated", "model.deleted", "model.unpriced"),
    "config.changed",
    *("ledger.lagged", "ledger.caught_up", "ledger.events_missing", "ledger.dead_letters_found"),
    "quota.exhausted",
    "guardrail.noticed",
    *("alert.undelivered", "alert.tested"),
)
"""The types of events, without their versions, that a destination may ask for."""
ALERT_TYPES_DEFAULT = (
    *("budget.warned", "budget.exceeded", "model.unpriced", "ledger.*"),
    *("quota.exhausted", "alert.undelivered", "alert.tested"),
)
"""What a destination that names no types is told: what somebody has to do something about."""


class EmailSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How mail is sent. `security`: TLS from the start, STARTTLS before anything else, or none."""

    host: str
    port: int
    sender: str
    recipients: tuple[str, ...]
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        """Show no password, in logs and tracebacks."""
        return f"EmailSettings(host={self.host!r})"


class AlertDestination(msgspec.Struct, frozen=True, kw_only=True):
    """Where alerts go, and which: an entry of `alerts`.

    `events` are types or patterns with `*`. With any of `teams`, `users` and `keys` (ids), only
    what is about one of these. `url` is that of a webhook or of Slack, `secret` signs a webhook.
    """

    name: str
    kind: Literal["webhook", "slack", "email"]
    events: tuple[str, ...] = ALERT_TYPES_DEFAULT
    teams: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    url: str = ""
    secret: str | None = None
    email: EmailSettings | None = None

    def __repr__(self) -> str:
        """Show neither address nor secret: whoever knows a webhook's address may write to it."""
        return f"AlertDestination(name={self.name!r}, kind={self.kind!r})"


class UnpricedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model without a price, and how many of the last day's requests are its."""

    model: Text
    requests: int


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """How far the reader's books are behind the stream; `problem`: why that is not known."""

    messages: int
    waited_s: int
    problem: Text | None = None


class MissingEvents(msgspec.Struct, frozen=True, kw_only=True):
    """How many events of proxies never arrived, and how many were known of before."""

    events: int
    events_before: int


class DeadLetters(msgspec.Struct, frozen=True, kw_only=True):
    """How many events could not be read, and how many were known of before."""

    events: int
    events_before: int


class SeatQuota(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription that the API refuses, and whose request it was that heard it."""

    seat: Text
    user_id: Text | None = None
    key_alias: Text | None = None
    team_id: Text | None = None
    window: Text | None = None
    resets_at_us: Micros | None = None


class GuardrailHits(msgspec.Struct, frozen=True, kw_only=True):
    """What one guardrail did with requests of one key since the last look, a quarter of a minute.

    `rules` are the first ten of those that were met. What was found is told nowhere.
    """

    guardrail: Text
    kind: Text
    action: Text
    rules: tuple[Text, ...]
    hits: int
    requests: int
    key_id: Text | None = None
    key_alias: Text | None = None
    user_id: Text | None = None
    team_id: Text | None = None


class Undelivered(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that was given up: for whom, why, after how many attempts, and the alert itself."""

    destination: str
    reason: Text
    attempts: int
    alert: dict[str, Any]


class AlertTrial(msgspec.Struct, frozen=True, kw_only=True):
    """Who asked whether alerts arrive."""

    asked_by: Text


class ModelUnpriced(Event, frozen=True, kw_only=True, tag="model.unpriced.v1"):
    """A model was used that has no price: its requests are in no sum and count for no budget."""

    data: UnpricedModel


class LedgerLagged(Event, frozen=True, kw_only=True, tag="ledger.lagged.v1"):
    """The books are behind the stream, or nobody answers for them."""

    data: Lag


class CaughtUp(Event, frozen=True, kw_only=True, tag="ledger.caught_up.v1"):
    """The books are as far as the stream again."""

    data: Lag


class EventsMissing(Event, frozen=True, kw_only=True, tag="ledger.events_missing.v1"):
    """Events that proxies have numbered never arrived."""

    data: MissingEvents


class DeadLettersFound(Event, frozen=True, kw_only=True, tag="ledger.dead_letters_found.v1"):
    """Events came that cannot be read."""

    data: DeadLetters


class QuotaExhausted(Event, frozen=True, kw_only=True, tag="quota.exhausted.v1"):
    """A subscription's quota is used up until its window ends."""

    data: SeatQuota


class GuardrailNoticed(Event, frozen=True, kw_only=True, tag="guardrail.noticed.v1"):
    """Guardrails found something: the sum of some `guardrail.triggered` events."""

    data: GuardrailHits


class AlertUndelivered(Event, frozen=True, kw_only=True, tag="alert.undelivered.v1"):
    """An alert was given up."""

    data: Undelivered


class AlertTested(Event, frozen=True, kw_only=True, tag="alert.tested.v1"):
    """Somebody asked whether alerts arrive."""

    data: AlertTrial


AlertEvent = (
    ModelUnpriced
    | LedgerLagged
    | CaughtUp
    | EventsMissing
    | DeadLettersFound
    | QuotaExhausted
    | GuardrailNoticed
    | AlertUndelivered
    | AlertTested
)

_decoder: msgspec.json.Decoder[AlertEvent] = msgspec.json.Decoder(AlertEvent)


def decode_alert_event(payload: bytes) -> AlertEvent:
    """Return an event of ALERT. Raises msgspec.DecodeError or UnicodeDecodeError."""
    return _decoder.decode(payload)
