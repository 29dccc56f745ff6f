"""What the ledger's roles say when they are asked to prove their books (`tallygate verify`).

A proof may take longer than NATS waits for an answer, so it is asked for again and again under one
id, until it is there.
"""

from decimal import Decimal
from typing import Literal

import msgspec

__all__ = ["Finding", "Gap", "Proof", "ProofReply", "ProofRequest", "ProofRole", "StreamFacts"]

ProofRole = Literal["writer", "reader"]


class ProofRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for a proof, or for one that was begun under this id.

    With `sequence` only the digest is wanted, as the books had it at that message of the stream.
    """

    id: str
    sequence: int | None = None


class StreamFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The stream USAGE as NATS has it. `created` tells it from another one of its name."""

    created: str
    first_sequence: int
    last_sequence: int


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Events of a producer that never arrived, by their numbers."""

    producer: str
    first_missing: int
    last_missing: int


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A fault of the books. `fault` is its name, `detail` what was found, `remedy` what to do."""

    fault: str
    detail: str
    remedy: str


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What one role's books say of themselves, all of one moment.

    `sequence` is the message of the stream up to which they hold everything; `digest` is that of
    all facts there. `recomputed` rows had their cost computed anew from their usage and the price
    book; `unpriced` ones have no price, by the same computation. `overdue` requests are open
    although so much time of the stream's server has passed that the next message closes them.
    `guarded` events tell what guardrails found. `archived` is the last message that has left the
    stream for the archive, which the writer alone proves. No findings: the books are proved.
    """

    role: ProofRole
    sequence: int = 0
    digest: str = ""
    stream: StreamFacts | None = None
    producers: int = 0
    events: int = 0
    repeats: int = 0
    missing: int = 0
    gaps: tuple[Gap, ...] = ()
    started: int = 0
    closed: int = 0
    open: int = 0
    overdue: int = 0
    lost: int = 0
    corrected: int = 0
    guarded: int = 0
    rows: int = 0
    refused: int = 0
    recomputed: int = 0
    unpriced: int = 0
    spend_usd: Decimal = Decimal(0)
    dead_letters: int = 0
    dead_letters_of_producers: int = 0
    archived: int = 0
    duration_s: float = 0.0
    findings: tuple[Finding, ...] = ()


class ProofReply(msgspec.Struct, frozen=True, kw_only=True):
    """The proof, or `running`: ask again under the same id. `error`: there will be none."""

    proof: Proof | None = None
    running: bool = False
    error: str | None = None
