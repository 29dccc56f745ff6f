"""Who may say what on NATS: one user per service, each as narrow as it can be.

Each service has the user of its name, and its `Bus` has that name too: replies come to
`_INBOX.<name>.>`, where no other service listens. The embedded nats-server's configuration is
written from this table, and containers/nats/nats.conf is compared with it by a test.

What the table cannot forbid: the server sends a stream's messages to whatever subject their reader
names, so a service that may read REGISTRY could have an old state of a key stored again as its
newest. The copy carries the original's `Nats-Expected-Last-Subject-Sequence` header, so the server
refuses it: everything on REGISTRY and BUDGET, and all prices, must be published with that header,
and a reader must check that a message's subject is the one that its payload names.
"""

import msgspec

from schemas.streams import (
    ALERT,
    BUDGET,
    CONFIG_STATE_SUBJECT,
    MARKS_ASK_SUBJECT,
    MARKS_SUBJECT,
    PROMPTS,
    PROOF_SUBJECT,
    QUERY_CONTROL_SUBJECT,
    QUERY_SUBJECT,
    RATES_SUBJECT,
    READER_STATE_SUBJECT,
    REGISTRY,
    REPRICE_ASK_SUBJECT,
    REPRICE_SUBJECT,
    SNAPSHOT_SUBJECT,
    STREAMS,
    USAGE,
    StreamDefinition,
    price_subject,
    proof_subject,
)

__all__ = ["NATS_USERS", "NatsUser", "user_entry"]

REPLY_WITHIN = "1m"
"""A service that was asked may answer the asker's inbox once, within this time."""


class NatsUser(msgspec.Struct, frozen=True, kw_only=True):
    """A user: the subjects it may publish to and subscribe to; everything else is refused."""

    name: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...] = ()
    answers: bool = False

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """All subjects that it may subscribe to, its own inbox included."""
        return (f"_INBOX.{self.name}.>", *self.subscribe)


def _reading(*streams: StreamDefinition) -> tuple[str, ...]:
    """Return what `Bus.follow` and `Bus.stream_state` publish to for these streams."""
    return tuple(
        subject
        for stream in streams
        for subject in (
            f"$JS.API.STREAM.INFO.{stream.name}",
            f"$JS.API.CONSUMER.CREATE.{stream.name}.>",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream.name}.>",
            f"$JS.API.CONSUMER.DELETE.{stream.name}.>",
        )
    )


NATS_USERS = (
    NatsUser(
        name="proxy",
        publish=(
            "usage.*",
            *PROMPTS.subjects,
            MARKS_ASK_SUBJECT,
            RATES_SUBJECT,
            *_reading(REGISTRY, BUDGET),
        ),
        subscribe=(CONFIG_STATE_SUBJECT, MARKS_SUBJECT, RATES_SUBJECT),
        answers=True,
    ),
    NatsUser(
        name="ledger-writer",
        publish=(
            *BUDGET.subjects,
            MARKS_SUBJECT,
            price_subject("book"),
            price_subject("file"),
            *(f"$JS.API.STREAM.CREATE.{stream.name}" for stream in STREAMS),
            # A store of an older version gets the subjects that it lacks.
            f"$JS.API.STREAM.UPDATE.{REGISTRY.name}",
            f"$JS.API.STREAM.UPDATE.{USAGE.name}",
            f"$JS.API.STREAM.UPDATE.{BUDGET.name}",
            # What is archived leaves the stream.
            f"$JS.API.STREAM.PURGE.{USAGE.name}",
            *_reading(*STREAMS),
            *(
                f"$JS.API.STREAM.{what}.{PROMPTS.name}"
                for what in ("INFO", "CREATE", "UPDATE", "PURGE")
            ),
            # Of `tallygate snapshot`, which in containers runs where the writer's file is.
            SNAPSHOT_SUBJECT,
        ),
        subscribe=(
            CONFIG_STATE_SUBJECT,
            MARKS_ASK_SUBJECT,
            proof_subject("writer"),
            SNAPSHOT_SUBJECT,
        ),
        answers=True,
    ),
    NatsUser(
        name="ledger-reader",
        publish=_reading(USAGE, REGISTRY, BUDGET),
        subscribe=(
            QUERY_SUBJECT,
            QUERY_CONTROL_SUBJECT,
            READER_STATE_SUBJECT,
            CONFIG_STATE_SUBJECT,
            proof_subject("reader"),
            REPRICE_ASK_SUBJECT,
        ),
        answers=True,
    ),
    NatsUser(
        name="admin",
        publish=(
            *REGISTRY.subjects,
            price_subject("api"),
            REPRICE_SUBJECT,
            REPRICE_ASK_SUBJECT,
            QUERY_SUBJECT,
            QUERY_CONTROL_SUBJECT,
            READER_STATE_SUBJECT,
            f"{PROOF_SUBJECT}.*",
            SNAPSHOT_SUBJECT,
            CONFIG_STATE_SUBJECT,
            *_reading(REGISTRY, BUDGET),
            f"$JS.API.DIRECT.GET.{PROMPTS.name}.>",
            # Alerts: the stream is this service's own.
            *ALERT.subjects,
            *(f"$JS.API.STREAM.{what}.{ALERT.name}" for what in ("CREATE", "UPDATE", "PURGE")),
            *_reading(ALERT),
            f"$JS.API.DIRECT.GET.{ALERT.name}.>",
            f"$JS.API.STREAM.INFO.{USAGE.name}",
        ),
        subscribe=(CONFIG_STATE_SUBJECT,),
        answers=True,
    ),
)


def user_entry(user: NatsUser, password: str) -> str:
    """Return the user's entry for nats-server's configuration.

    `password` is written as it is: a quoted string, or `$NAME` for a variable of the environment.
    """
    lines = [
        f"    {{ user: {_quote(user.name)}, password: {password}, permissions: {{",
        f"        publish: {{ allow: [{_list(user.publish)}] }}",
        f"        subscribe: {{ allow: [{_list(user.subscriptions)}] }}",
    ]
    if user.answers:
        lines.append(f'        allow_responses: {{ max: 1, expires: "{REPLY_WITHIN}" }}')
    lines.append("    } }")
    return "\n".join(lines)


def _list(subjects: tuple[str, ...]) -> str:
    return ", ".join(_quote(subject) for subject in subjects)


def _quote(text: str) -> str:
    return msgspec.json.encode(text).decode()
