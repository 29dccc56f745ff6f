"""The streams and their subjects on NATS JetStream."""

from urllib.parse import quote

import msgspec

from schemas.prices import PriceKind

__all__ = [
    "ALERT",
    "ALERT_STATE_SUBJECT",
    "BUDGET",
    "CONFIG_STATE_SUBJECT",
    "CONFIG_SUBJECT",
    "MARKS_ASK_SUBJECT",
    "MARKS_SUBJECT",
    "PRICE_SUBJECTS",
    "PROMPTS",
    "PROOF_SUBJECT",
    "QUERY_CONTROL_SUBJECT",
    "QUERY_SUBJECT",
    "RATES_SUBJECT",
    "READER_STATE_SUBJECT",
    "REGISTRY",
    "REPRICE_ASK_SUBJECT",
    "REPRICE_SUBJECT",
    "SNAPSHOT_SUBJECT",
    "STREAMS",
    "USAGE",
    "USAGE_BATCH_BYTES_MAX",
    "USAGE_BATCH_EVENTS_MAX",
    "StreamDefinition",
    "budget_subject",
    "dead_alert_subject",
    "key_subject",
    "model_subject",
    "price_subject",
    "prompt_subject",
    "proof_subject",
    "raised_alert_subject",
    "subject_token",
    "team_subject",
    "usage_subject",
    "user_subject",
]

USAGE_BATCH_BYTES_MAX = 512 * 1024
"""A micro-batch on USAGE is at most this long, so that it fits NATS's default of 1 MiB."""
USAGE_BATCH_EVENTS_MAX = 1000
"""A micro-batch on USAGE holds at most so many events."""

QUERY_SUBJECT = "rpc.ledger.query"
"""Request/reply: a QueryRequest to the ledger's reader, a QueryReply back (schemas.rpc)."""

QUERY_CONTROL_SUBJECT = "rpc.ledger.query.control"
"""Request/reply: a QueryControl to the ledger's reader, a QueryReply back (schemas.rpc)."""

READER_STATE_SUBJECT = "rpc.ledger.reader"
"""Request/reply: nothing to the ledger's reader, its ReaderState back (schemas.rpc)."""

PROOF_SUBJECT = "rpc.ledger.proof"
"""Request/reply: a ProofRequest to a role of the ledger, a ProofReply back (schemas.proof)."""

REPRICE_ASK_SUBJECT = "rpc.ledger.reprice"
"""Request/reply: a Repricing to the ledger's reader, a RepriceReply back (schemas.reprice)."""

SNAPSHOT_SUBJECT = "rpc.ledger.snapshot"
"""Request/reply: a SnapshotRequest to the ledger's writer, a SnapshotReply (schemas.snapshot)."""

MARKS_SUBJECT = "marks.told"
"""The ledger's writer tells here, to who listens, where budgets stand (schemas.budgets)."""

MARKS_ASK_SUBJECT = "rpc.ledger.marks"
"""Request/reply: a MarksQuestion to the ledger's writer, a MarksTold back (schemas.budgets)."""

RATES_SUBJECT = "rates.news"
"""What the workers of all proxies tell one another about rate limits (schemas.rates)."""

CONFIG_STATE_SUBJECT = "rpc.config.state"
"""Request and replies: every process answers with its ConfigState (schemas.rpc)."""

CONFIG_SUBJECT = "registry.config.file"
"""Where the last word on the configuration file is."""


class StreamDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """One JetStream stream: file storage, messages never deleted by a limit.

    `history` is how many messages a subject keeps (-1: all). New messages are refused, not old
    ones dropped, where a limit of the server is reached (discard new). What is old leaves USAGE for
    the archive (services.ledger.archiver). PROMPTS and ALERT alone do drop old messages.
    """

    name: str
    subjects: tuple[str, ...]
    purpose: str
    history: int = -1


USAGE = StreamDefinition(
    name="USAGE",
    subjects=("usage.*", "price.*"),
    purpose="requests and their usage, in micro-batches, from the proxies; and changes of prices, "
    "which hold for what follows them; and repricings of what came before them",
)
REGISTRY = StreamDefinition(
    name="REGISTRY",
    subjects=(
        "registry.key.*",
        "registry.team.*",
        "registry.user.*",
        "registry.model.*",
        "registry.config.*",
    ),
    purpose="virtual keys, teams, users, models added at run time and the configuration's digest; "
    "the last message of a subject is its state",
)
BUDGET = StreamDefinition(
    name="BUDGET",
    subjects=("budget.*.*", "budget.*.*.*"),
    purpose="budgets exceeded and cleared; the last message of a subject is its state",
)
PROMPTS = StreamDefinition(
    name="PROMPTS",
    subjects=("prompt.*",),
    purpose="what was asked and answered, word for word, where `store_prompts` asks for it; the "
    "only stream that drops old messages, by age and size",
    history=1,
)
ALERT = StreamDefinition(
    name="ALERT",
    subjects=("alert.state", "alert.raised.*", "alert.dead.*"),
    purpose="alerts that are about a state of the books, those that could not be delivered, and "
    "how far each destination has been told; what is old is dropped",
    history=1,
)
STREAMS = (REGISTRY, USAGE, BUDGET)
"""All but PROMPTS and ALERT, which have limits of their own (Bus.ensure_expiring)."""

ALERT_STATE_SUBJECT = "alert.state"
"""How far each destination of alerts has been told, and which process tells them."""

PRICE_SUBJECTS = frozenset(f"price.{kind}" for kind in ("book", "file", "api"))
"""Where changes of prices are, each with one event and the whole state of one part."""

REPRICE_SUBJECT = "price.reprice"
"""Where repricings are: each is one event, and about the requests before it."""


def usage_subject(partition: int = 0) -> str:
    """Return the subject of one partition of usage."""
    return f"usage.{partition}"


def prompt_subject(request_id: str) -> str:
    """Return the subject of what one request asked and was answered."""
    return f"prompt.{request_id}"


def key_subject(key_id: str) -> str:
    """Return the subject that holds the state of one virtual key."""
    return f"registry.key.{key_id}"


def raised_alert_subject(event_id: str) -> str:
    """Return the subject of an alert that the admin service itself raised."""
    return f"alert.raised.{event_id}"


def dead_alert_subject(event_id: str) -> str:
    """Return the subject of an alert that was given up."""
    return f"alert.dead.{event_id}"


def subject_token(text: str) -> str:
    """Return a text of any characters as one token of a subject; no two texts share one.

    Letters, digits, `_`, `-`, `~` and `@` stay as they are, all others are percent-encoded.
    """
    return quote(text, safe="@").replace(".", "%2E")


def team_subject(team_id: str) -> str:
    """Return the subject that holds the state of one team."""
    return f"registry.team.{subject_token(team_id)}"


def user_subject(user_id: str) -> str:
    """Return the subject that holds the state of one user."""
    return f"registry.user.{subject_token(user_id)}"


def model_subject(model_id: str) -> str:
    """Return the subject that holds the state of one model that was added at run time."""
    return f"registry.model.{model_id}"


def proof_subject(role: str) -> str:
    """Return the subject on which a role of the ledger is asked for its proof."""
    return f"{PROOF_SUBJECT}.{role}"


def price_subject(kind: PriceKind) -> str:
    """Return the subject of one part of the prices."""
    return f"price.{kind}"


def budget_subject(scope: str, scope_id: str, limit: str = "max_budget") -> str:
    """Return the subject that holds the state of one budget: one limit of one owner."""
    owner = f"budget.{scope}.{subject_token(scope_id)}"
    return owner if limit == "max_budget" else f"{owner}.{subject_token(limit)}"
