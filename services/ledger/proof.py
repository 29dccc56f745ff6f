"""The proof of one role's books: everything is counted twice, from two sides, and must agree.

All of it looks at one moment: a transaction of its own, which the books' own work does not wait
for. `prove` works on a running ledger's connection as on a closed file.
"""

import time
from collections.abc import Iterator
from typing import Any

import duckdb
import msgspec

from schemas.proof import Finding, Gap, Proof, ProofRole, StreamFacts
from schemas.streams import USAGE
from services.ledger.projection import LOST_AFTER_S, Counts
from services.ledger.recompute import differing_costs
from services.ledger.rollups import ROLLUPS, differing
from services.ledger.store import digest, read_checkpoint
from services.runtime.price_book import PriceBook

__all__ = ["GAPS_TOLD_MAX", "digest_at", "prove"]

GAPS_TOLD_MAX = 100
"""So many gaps are named; all are counted."""
REQUESTS_AT_ONCE_MAX = 500_000
"""Repeats are looked for among so many rows at a time: a bound of the memory that it takes."""
_REBUILD = (
    "keep the file for whoever looks into it, and have the books built anew from the stream: stop "
    "the ledger, move the file away, start it"
)
_REPORT = f"this must not happen: please report it; {_REBUILD}"
_RESTORE = (
    "events were lost before they reached NATS (a disk that was lost or rolled back, or a purged "
    "stream): restore it from a backup; what is gone stays named here"
)


def digest_at(connection: duckdb.DuckDBPyConnection, role: ProofRole, sequence: int) -> Proof:
    """Return only the digest, as the books had it at a message of the stream."""
    began_s = time.monotonic()
    found = digest(connection, sequence)
    duration_s = time.monotonic() - began_s
    return Proof(role=role, sequence=sequence, digest=found, duration_s=duration_s)


def prove(
    connection: duckdb.DuckDBPyConnection,
    book: PriceBook,
    role: ProofRole,
    stream: StreamFacts | None,
) -> Proof:
    """Return the proof of some books. `stream` is the stream as NATS has it, asked before.

    Raises duckdb.Error where they cannot be read.
    """
    began_s = time.monotonic()
    connection.execute("BEGIN TRANSACTION")
    try:
        proof = _prove(connection, book, role, stream)
    finally:
        connection.execute("ROLLBACK")
    return msgspec.structs.replace(proof, duration_s=round(time.monotonic() - began_s, 3))


def _prove(
    connection: duckdb.DuckDBPyConnection,
    book: PriceBook,
    role: ProofRole,
    stream: StreamFacts | None,
) -> Proof:
    checkpoint = read_checkpoint(connection, USAGE.name)
    counts = checkpoint.counts if checkpoint is not None else Counts()
    facts = _facts(connection)
    gaps = _gaps(connection)
    costs = differing_costs(connection, book)
    proof = Proof(
        role=role,
        sequence=checkpoint.sequence if checkpoint is not None else 0,
        digest=digest(connection),
        stream=stream,
        gaps=gaps,
        events=counts.events,
        repeats=counts.repeats,
        started=counts.started,
        closed=counts.closed,
        lost=counts.lost,
        corrected=counts.corrected,
        guarded=counts.guarded,
        recomputed=facts["rows"],
        **{name: facts[name] for name in _TOLD},
    )
    findings = [
        *_of_stream(proof, checkpoint.stream_created if checkpoint is not None else None),
        *_of_gaps(proof),
        *_of_counts(proof, counts, facts),
        *_of_rows(connection, proof),
        *_of_dead_letters(proof),
    ]
    if costs:
        named = "; ".join(
            f"{row.request_id}: {row.stored_usd}, not {row.computed}" for row in costs
        )
        findings.append(
            Finding(
                fault="cost",
                detail=f"costs that another computation gives otherwise: {named}",
                remedy=_REPORT,
            )
        )
    return msgspec.structs.replace(proof, findings=tuple(findings))


_TOLD = (
    "rows",
    "refused",
    "unpriced",
    "spend_usd",
    "open",
    "overdue",
    "producers",
    "missing",
    "dead_letters",
    "dead_letters_of_producers",
)
_FACTS = {
    "rows": "SELECT count(*) FROM requests",
    "refused": "SELECT count(*) FROM requests WHERE status = 'refused'",
    "unpriced": "SELECT count(*) FROM requests WHERE unpriced",
    "spend_usd": "SELECT coalesce(sum(cost_usd), 0) FROM requests",
    "lost_rows": "SELECT count(*) FROM requests WHERE error_type = 'lost' AND estimated",
    "open": "SELECT count(*) FROM open_requests",
    "overdue": "SELECT count(*) FROM open_requests WHERE opened_at <= make_timestamp($1)",
    "producers": "SELECT count(*) FROM producers",
    "numbered": "SELECT coalesce(sum(last_sequence), 0)::BIGINT FROM producers",
    "missing": "SELECT coalesce(sum(last_missing - first_missing + 1), 0)::BIGINT FROM gaps",
    "corrections": "SELECT count(*) FROM corrections",
    "guarded": "SELECT count(*) FROM (SELECT DISTINCT producer, producer_sequence "
    "FROM guardrail_events)",
    "dead_letters": "SELECT count(*) FROM dead_letters",
    "dead_letters_of_producers": "SELECT count(producer) FROM dead_letters",
}


def _facts(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    found = connection.execute(
        "SELECT " + ", ".join(f"({query}) AS {name}" for name, query in _FACTS.items()),
        [time.time_ns() // 1000 - LOST_AFTER_S * 1_000_000],
    ).fetchall()
    return dict(zip(_FACTS, found[0], strict=True))


def _gaps(connection: duckdb.DuckDBPyConnection) -> tuple[Gap, ...]:
    found = connection.execute(
        "SELECT producer, first_missing, last_missing FROM gaps ORDER BY ALL LIMIT ?",
        [GAPS_TOLD_MAX],
    ).fetchall()
    return tuple(
        Gap(producer=producer, first_missing=first, last_missing=last)
        for producer, first, last in found
    )


def _of_stream(proof: Proof, created: str | None) -> Iterator[Finding]:
    stream = proof.stream
    if stream is None or created is None:
        return
    if stream.created != created or stream.last_sequence < proof.sequence:
        yield Finding(
            fault="checkpoint",
            detail=f"the books stand at message {proof.sequence} of the stream made at {created}; "
            f"NATS has one made at {stream.created} that ends at {stream.last_sequence}",
            remedy="is this the right NATS? If it was restored from an older backup, events since "
            "then are in these books alone: keep the file",
        )
    elif stream.first_sequence > proof.sequence + 1:
        yield Finding(
            fault="checkpoint",
            detail=f"the stream has lost its messages {proof.sequence + 1} to "
            f"{stream.first_sequence - 1}, which are not in the books",
            remedy=_RESTORE,
        )


def _of_gaps(proof: Proof) -> Iterator[Finding]:
    if proof.missing:
        named = ", ".join(
            f"{g.producer}: {g.first_missing} to {g.last_missing}" for g in proof.gaps
        )
        yield Finding(
            fault="gaps", detail=f"{proof.missing} events never arrived ({named})", remedy=_RESTORE
        )


def _of_counts(proof: Proof, counts: Counts, facts: dict[str, Any]) -> Iterator[Finding]:
    """Compare what was counted as the events came with what there is now."""
    letters = proof.dead_letters_of_producers
    for what, one, other in (
        ("events, and the producers' numbers", counts.events, facts["numbered"] - proof.missing),
        (
            "events, and what became of them",
            counts.events,
            counts.started + counts.ends + counts.again + counts.guarded + letters,
        ),
        (
            "requests started, and those closed, lost or open",
            counts.started,
            counts.closed + counts.lost + proof.open,
        ),
        ("rows, and the ends that came", proof.rows, counts.ends + counts.lost - counts.corrected),
        ("rows of lost requests", facts["lost_rows"], counts.lost - counts.corrected),
        ("corrections", facts["corrections"], counts.corrected),
        ("what guardrails found", facts["guarded"], counts.guarded),
    ):
        if one != other:
            yield Finding(fault="counts", detail=f"{what}: {one} and {other}", remedy=_REPORT)


def _of_rows(connection: duckdb.DuckDBPyConnection, proof: Proof) -> Iterator[Finding]:
    parts = proof.rows // REQUESTS_AT_ONCE_MAX + 1
    for column in ("request_id", "producer || ':' || producer_sequence"):
        doubled = 0
        for part in range(parts):
            doubled += _one(
                connection,
                f"SELECT count(*) - count(DISTINCT {column}) FROM requests "  # noqa: S608
                f"WHERE hash({column}) % {parts} = {part}",
            )
        if doubled:
            detail = f"{doubled} rows more than there are different ({column})"
            yield Finding(fault="doubled", detail=detail, remedy=_REPORT)
    for what, query in _ROWS.items():
        if wrong := _one(connection, query):
            detail = f"{wrong} rows: {what}"
            yield Finding(fault="rows", detail=detail, remedy=_REPORT)
    for rollup in ROLLUPS:
        if wrong := differing(connection, rollup):
            detail = f"{wrong} groups of {rollup.table} do not add up to their facts"
            yield Finding(fault="rollups", detail=detail, remedy=_REPORT)
    for view, query in _VIEWS.items():
        if _one(connection, query):
            detail = f"the view {view} does not add up to the facts"
            yield Finding(fault="views", detail=detail, remedy=_REPORT)


_ROWS = {
    "the cost is not the sum of its parts": "SELECT count(*) FROM requests WHERE cost_usd <> "
    "input_cost_usd + output_cost_usd + cache_read_cost_usd + cache_write_5m_cost_usd "
    "+ cache_write_1h_cost_usd + web_search_cost_usd",
    "the tokens are not the sum of their parts": "SELECT count(*) FROM requests WHERE "
    "prompt_tokens <> input_tokens + cache_read_tokens + cache_write_5m_tokens "
    "+ cache_write_1h_tokens OR total_tokens <> prompt_tokens + output_tokens",
    "a number that their producer has not reached": "SELECT count(*) FROM requests LEFT JOIN "
    "producers USING (producer) WHERE last_sequence IS NULL OR producer_sequence > last_sequence",
    "a message after the checkpoint": "SELECT count(*) FROM requests WHERE stream_sequence > "
    "(SELECT coalesce(max(sequence), 0) FROM checkpoints)",
    "over and still open": "SELECT count(*) FROM requests SEMI JOIN open_requests "
    "USING (request_id)",
}
"""What must hold for each row: queries that count those for which it does not."""
_SUMS = "count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(cost_usd), 0)"
_VIEW_SUMS = "coalesce(sum({}), 0), coalesce(sum(prompt_tokens), 0), coalesce(sum(cost_usd), 0)"
_VIEWS = {
    "spend_by_day": f"SELECT count(*) FROM ((SELECT {_SUMS} FROM requests) EXCEPT "  # noqa: S608
    f"(SELECT {_VIEW_SUMS.format('requests')} FROM spend_by_day))",
    "ttfb_by_day": "SELECT (SELECT count(ttfb_ms) FROM requests WHERE status = 'success') "
    "- (SELECT coalesce(sum(requests), 0) FROM ttfb_by_day)",
    "sessions": f"SELECT count(*) FROM ((SELECT {_SUMS} FROM requests "  # noqa: S608
    "WHERE status <> 'refused' AND session_id IS NOT NULL) EXCEPT "
    f"(SELECT {_VIEW_SUMS.format('requests')} FROM sessions))",
    "rejections": "SELECT (SELECT count(*) FROM requests WHERE status = 'refused') "
    "- (SELECT count(*) FROM rejections)",
}
"""What the views sum up against the facts: anything but 0 is a fault."""


def _of_dead_letters(proof: Proof) -> Iterator[Finding]:
    if letters := proof.dead_letters_of_producers:
        yield Finding(
            fault="dead letters",
            detail=f"{letters} events of proxies could not be read: what they told is not in the "
            "books (any others were never numbered by a proxy: nothing is missing without them)",
            remedy="`tallygate ledger retry-dead-letters` says why each cannot be read; a version "
            "that can read them counts them when it starts",
        )


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(connection.execute(query).fetchall()[0][0])
