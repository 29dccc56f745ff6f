"""The events: CloudEvents 1.0 in JSON, tagged by their versioned type.

An event is identified by (`source`, `id`). Events of a proxy have the source
`/proxy/<producer id>` and a contiguous decimal number as their id: the producer sequence, by which
the ledger recognises repeats and gaps for ever. All other events have a random id.

Fields are only ever added, with defaults. tests/contracts/frozen_events holds the bytes of every
version that was ever written; they must decode for ever.

A message on the USAGE stream is a micro-batch: a JSON array of such events in producer order (the
JSON batch format of CloudEvents). Changes of prices, which are on that stream too, and messages on
the other streams hold one event each.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal

import msgspec

from schemas.client_facts import ClientFacts
from schemas.guardrails import GuardrailFinding
from schemas.prices import PriceChange, Repricing
from schemas.registry import ConfigChange, KeyRecord, ModelRecord, TeamRecord, UserRecord
from schemas.usage import Usage

__all__ = [
    "EVENT_BYTES_MAX",
    "Billing",
    "ChangeEvent",
    "ConfigChanged",
    "Endpoint",
    "Event",
    "GuardrailHit",
    "GuardrailTriggered",
    "KeyBlocked",
    "KeyCreated",
    "KeyDeleted",
    "KeyEvent",
    "KeyRotated",
    "KeyUnblocked",
    "KeyUpdated",
    "ModelCreated",
    "ModelDeleted",
    "ModelEvent",
    "ModelUpdated",
    "PriceChanged",
    "QuotaSeen",
    "Rejection",
    "RequestFacts",
    "RequestRejected",
    "RequestStarted",
    "RequestStatus",
    "RequestsRepriced",
    "TeamBlocked",
    "TeamCreated",
    "TeamDeleted",
    "TeamEvent",
    "TeamUnblocked",
    "TeamUpdated",
    "UsageEvent",
    "UsageRecord",
    "UsageRecorded",
    "UserCreated",
    "UserDeleted",
    "UserEvent",
    "UserUpdated",
    "decode_config_event",
    "decode_key_event",
    "decode_model_event",
    "decode_price_event",
    "decode_reprice_event",
    "decode_team_event",
    "decode_usage_event",
    "decode_user_event",
    "encode_event",
    "time_from_us",
    "us_from_time",
]

EVENT_BYTES_MAX = 64 * 1024
"""No event is larger than this; texts from outside are cut to keep to it."""

Billing = Literal["api", "subscription"]
RequestStatus = Literal["success", "failure", "refused", "client_closed"]
Endpoint = Literal["messages", "count_tokens", "batches", "batch_result", "files", "pass_through"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Text = Annotated[str, msgspec.Meta(max_length=1024)]
Micros = Annotated[int, msgspec.Meta(ge=0, le=253402300799999999)]
Count = Annotated[int, msgspec.Meta(ge=0)]


def time_from_us(time_us: int) -> datetime:
    """Return microseconds since the epoch as an aware UTC datetime (exact, no floats)."""
    seconds, micros = divmod(time_us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)


def us_from_time(time: datetime) -> int:
    """Return an aware datetime as microseconds since the epoch (exact, no floats)."""
    delta = time - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", gc=False):
    """The CloudEvents envelope. `time`: when it was written; `subject`: what it is about."""

    specversion: Literal["1.0"] = "1.0"
    source: str
    id: str
    time: datetime
    subject: str | None = None


class RequestFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What is known of a request when it starts.

    `request_id` is the gateway's own (`tg_` and 32 hex digits, ordered by time). `model_name` is
    what the client asked for, `alias_of` what that stands for where it is an alias, `model` what
    the deployment was asked for. The key, user and team
    are those of the moment: a later rename does not change history. `path` is told of all endpoints
    but messages and count_tokens, without its query; `batch_id` where it names a message batch.

    Each attempt at a deployment is a request of its own. `attempt_of` is told of all but the first:
    the id of the first. `reserved_usd` is what it may cost at most, told where a strict budget
    counts it from its start. `client` is what the request says of its client (None: nothing was
    read).
    `route_reason` is told where another than the first choice was asked on purpose:
    `quota_exhausted`, the subscription's quota was used up and a deployment's `api_key` pays.
    """

    request_id: Text
    started_at_us: Micros
    endpoint: Endpoint = "messages"
    key_id: Text | None = None
    key_alias: Text | None = None
    user_id: Text | None = None
    team_id: Text | None = None
    model_name: Text | None = None
    model: Text | None = None
    deployment: Text | None = None
    billing: Billing = "api"
    stream: bool = False
    session_id: Text | None = None
    user_agent: Text | None = None
    request_bytes: Count = 0
    path: Text | None = None
    batch_id: Text | None = None
    attempt_of: Text | None = None
    alias_of: Text | None = None
    reserved_usd: Decimal | None = None
    client: ClientFacts | None = None
    route_reason: Text | None = None


class QuotaSeen(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the headers of an answer said of the account that it was asked with.

    `seat` is a hash that stands for the account. `headers` are those that begin with
    `anthropic-ratelimit-`, by the rest of their names, as they were told.
    """

    seat: Text
    headers: dict[str, Text]


class UsageRecord(RequestFacts, frozen=True, kw_only=True, omit_defaults=True):
    """A request that was forwarded and is over, with what it used.

    `usage` is None where nothing was reported (an error of the upstream). `estimated` says that
    part of `usage` is not the upstream's own final word; `estimate_basis` says how it was made.
    `quota` is told where the answer's headers said something new of the account's quota.

    A result of a message batch is a record of its own (endpoint `batch_result`, `custom_id` is the
    client's name for it), written each time that it is fetched: its `request_id` is then the same,
    and the first record counts.
    """

    ended_at_us: Micros
    first_byte_at_us: Micros | None = None
    status: RequestStatus = "success"
    http_status: int = 200
    error_type: Text | None = None
    usage: Usage | None = None
    estimated: bool = False
    estimate_basis: Text | None = None
    response_model: Text | None = None
    upstream_request_id: Text | None = None
    message_id: Text | None = None
    stop_reason: Text | None = None
    response_bytes: Count = 0
    custom_id: Text | None = None
    quota: QuotaSeen | None = None


class Rejection(RequestFacts, frozen=True, kw_only=True, omit_defaults=True):
    """A request that the gateway itself answered: no deployment saw it and it cost nothing."""

    ended_at_us: Micros
    http_status: int
    error_type: Text
    reason: Text


class GuardrailHit(RequestFacts, frozen=True, kw_only=True, omit_defaults=True):
    """What a guardrail found in a request, and what it did: `block`, `mask` or `log`.

    A blocked request is told as rejected, too; the others go on. Of a conversation that is sent
    again with each request, what was told once is not told again by the same proxy worker.
    """

    found_at_us: Micros
    guardrail: Text
    kind: Text
    mode: Text
    action: Text
    findings: tuple[GuardrailFinding, ...]


class RequestStarted(Event, frozen=True, kw_only=True, tag="request.started.v1"):
    """A request passed every check and is about to be sent to its deployment."""

    data: RequestFacts


class UsageRecorded(Event, frozen=True, kw_only=True, tag="usage.recorded.v1"):
    """A forwarded request is over: the fact from which its cost is computed."""

    data: UsageRecord


class RequestRejected(Event, frozen=True, kw_only=True, tag="request.rejected.v1"):
    """The gateway refused a request."""

    data: Rejection


class GuardrailTriggered(Event, frozen=True, kw_only=True, tag="guardrail.triggered.v1"):
    """A guardrail found something in a request."""

    data: GuardrailHit


class ChangeEvent(Event, frozen=True, kw_only=True):
    """A change of the registry. Where a request asked for it, the envelope tells of that request.

    `clientaddress` is the address of the client, `route` what it asked (`POST /key/update`),
    `requestid` the id that the answer had (its header `request-id`).
    """

    clientaddress: Text | None = None
    route: Text | None = None
    requestid: Text | None = None


class KeyEventBase(ChangeEvent, frozen=True, kw_only=True):
    """A change of one virtual key: `data` is its whole new state."""

    data: KeyRecord


class KeyCreated(KeyEventBase, frozen=True, kw_only=True, tag="key.created.v1"):
    """A virtual key was issued."""


class KeyUpdated(KeyEventBase, frozen=True, kw_only=True, tag="key.updated.v1"):
    """Some of a virtual key's settings were changed."""


class KeyBlocked(KeyEventBase, frozen=True, kw_only=True, tag="key.blocked.v1"):
    """A virtual key was blocked: it is refused until it is unblocked."""


class KeyUnblocked(KeyEventBase, frozen=True, kw_only=True, tag="key.unblocked.v1"):
    """A blocked virtual key may be used again."""


class KeyRotated(KeyEventBase, frozen=True, kw_only=True, tag="key.rotated.v1"):
    """A virtual key has a new secret; the old one is refused."""


class KeyDeleted(KeyEventBase, frozen=True, kw_only=True, tag="key.deleted.v1"):
    """A virtual key was deleted: it is refused for ever, its history stays."""


class TeamEventBase(ChangeEvent, frozen=True, kw_only=True):
    """A change of one team: `data` is its whole new state."""

    data: TeamRecord


class TeamCreated(TeamEventBase, frozen=True, kw_only=True, tag="team.created.v1"):
    """A team was made."""


class TeamUpdated(TeamEventBase, frozen=True, kw_only=True, tag="team.updated.v1"):
    """Some of a team's settings were changed."""


class TeamBlocked(TeamEventBase, frozen=True, kw_only=True, tag="team.blocked.v1"):
    """A team was blocked: all of its keys are refused until it is unblocked."""


class TeamUnblocked(TeamEventBase, frozen=True, kw_only=True, tag="team.unblocked.v1"):
    """The keys of a blocked team may be used again."""


class TeamDeleted(TeamEventBase, frozen=True, kw_only=True, tag="team.deleted.v1"):
    """A team was deleted: all of its keys are refused for ever."""


class UserEventBase(ChangeEvent, frozen=True, kw_only=True):
    """A change of one user: `data` is its whole new state."""

    data: UserRecord


class UserCreated(UserEventBase, frozen=True, kw_only=True, tag="user.created.v1"):
    """A user was made."""


class UserUpdated(UserEventBase, frozen=True, kw_only=True, tag="user.updated.v1"):
    """Some of a user's settings were changed."""


class UserDeleted(UserEventBase, frozen=True, kw_only=True, tag="user.deleted.v1"):
    """A user was deleted: all of its keys are refused for ever."""


class ModelEventBase(ChangeEvent, frozen=True, kw_only=True):
    """A change of one model of the registry: `data` is its whole new state."""

    data: ModelRecord


class ModelCreated(ModelEventBase, frozen=True, kw_only=True, tag="model.created.v1"):
    """A model was added at run time."""


class ModelUpdated(ModelEventBase, frozen=True, kw_only=True, tag="model.updated.v1"):
    """A model that was added at run time was changed."""


class ModelDeleted(ModelEventBase, frozen=True, kw_only=True, tag="model.deleted.v1"):
    """A model that was added at run time was deleted: its history stays."""


class ConfigChanged(ChangeEvent, frozen=True, kw_only=True, tag="config.changed.v1"):
    """The configuration file was checked, and every process is to take it."""

    data: ConfigChange


class PriceChanged(Event, frozen=True, kw_only=True, tag="price.changed.v1"):
    """A part of the prices was changed: the requests whose end comes later cost so much."""

    data: PriceChange


class RequestsRepriced(Event, frozen=True, kw_only=True, tag="requests.repriced.v1"):
    """Costs of requests that came before were computed anew."""

    data: Repricing


UsageEvent = RequestStarted | UsageRecorded | RequestRejected | GuardrailTriggered
KeyEvent = KeyCreated | KeyUpdated | KeyBlocked | KeyUnblocked | KeyRotated | KeyDeleted
TeamEvent = TeamCreated | TeamUpdated | TeamBlocked | TeamUnblocked | TeamDeleted
UserEvent = UserCreated | UserUpdated | UserDeleted
ModelEvent = ModelCreated | ModelUpdated | ModelDeleted

_encoder = msgspec.json.Encoder()
_usage_decoder: msgspec.json.Decoder[UsageEvent] = msgspec.json.Decoder(UsageEvent)
_key_decoder: msgspec.json.Decoder[KeyEvent] = msgspec.json.Decoder(KeyEvent)
_team_decoder: msgspec.json.Decoder[TeamEvent] = msgspec.json.Decoder(TeamEvent)
_user_decoder: msgspec.json.Decoder[UserEvent] = msgspec.json.Decoder(UserEvent)
_model_decoder: msgspec.json.Decoder[ModelEvent] = msgspec.json.Decoder(ModelEvent)
_config_decoder: msgspec.json.Decoder[ConfigChanged] = msgspec.json.Decoder(ConfigChanged)
_price_decoder: msgspec.json.Decoder[PriceChanged] = msgspec.json.Decoder(PriceChanged)
_reprice_decoder: msgspec.json.Decoder[RequestsRepriced] = msgspec.json.Decoder(RequestsRepriced)


def encode_event(event: Event) -> bytes:
    """Return the event's JSON bytes."""
    return _encoder.encode(event)


def decode_usage_event(payload: bytes | msgspec.Raw) -> UsageEvent:
    """Return an event of the USAGE stream. Raises msgspec.DecodeError or UnicodeDecodeError."""
    return _usage_decoder.decode(payload)


def decode_key_event(payload: bytes) -> KeyEvent:
    """Return an event of a key. Raises msgspec.DecodeError or UnicodeDecodeError."""
    return _key_decoder.decode(payload)


def decode_team_event(payload: bytes) -> TeamEvent:
    """Return an event of a team. Raises msgspec.DecodeError or UnicodeDecodeError."""
    return _team_decoder.decode(payload)


def decode_user_event(payload: bytes) -> UserEvent:
    """Return an event of a user. Raises msgspec.DecodeError or UnicodeDecodeError."""
    return _user_decoder.decode(payload)


def decode_model_event(payload: bytes) -> ModelEvent:
    """Return an event of a model. Raises msgspec.DecodeError or UnicodeDecodeError."""
    return _model_decoder.decode(payload)


def decode_config_event(payload: bytes) -> ConfigChanged:
    """Return an event of the configuration. Raises msgspec.DecodeError or UnicodeDecodeError."""
    return _config_decoder.decode(payload)


def decode_price_event(payload: bytes) -> PriceChanged:
    """Return a change of prices. Raises msgspec.DecodeError or UnicodeDecodeError."""
    return _price_decoder.decode(payload)


def decode_reprice_event(payload: bytes) -> RequestsRepriced:
    """Return a repricing. Raises msgspec.DecodeError or UnicodeDecodeError."""
    return _reprice_decoder.decode(payload)
