"""Verifying the books of both roles: their proofs, and whether they agree.

A role that runs proves its books itself, since DuckDB lets one process open a file; the file of one
that does not run is opened here, to be read only.
"""

import asyncio
from pathlib import Path
from secrets import token_hex

import duckdb
import msgspec

from schemas.errors import ConfigError
from schemas.proof import Finding, Proof, ProofReply, ProofRequest, ProofRole, StreamFacts
from schemas.streams import USAGE, proof_subject
from services.ledger.archive_proof import with_archive
from services.ledger.books_reading import read_books
from services.ledger.proof import digest_at, prove
from services.ledger.proof_service import stream_facts
from services.runtime.bus import Bus, BusError, BusUnavailable
from services.runtime.price_book import PriceBook

__all__ = ["Verified", "verify"]

ROLES: tuple[ProofRole, ...] = ("writer", "reader")
REQUEST_TIMEOUT_S = 30.0
PROOF_TIMEOUT_S = 3600.0
"""So long a proof may take; a hundred million requests do not need it."""


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """The proofs, and the digests at one message of the stream, by role.

    `missing` are roles that have no books here and do not run. `findings` are faults that only
    show when both are compared.
    """

    proofs: tuple[Proof, ...]
    sequence: int
    digests: dict[str, str]
    missing: tuple[ProofRole, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def is_proved(self) -> bool:
        """Whether nothing was found against any of the books."""
        return not self.findings and not any(proof.findings for proof in self.proofs)


async def verify(
    bus: Bus, files: dict[ProofRole, Path], archives: Path, *, ask_roles: bool
) -> Verified:
    """Prove the books of both roles. Raises ConfigError where they cannot be read.

    `archives` is the folder of the archive, which is proved with the writer's books. With
    `ask_roles` a role that runs is asked for its proof; else the files alone are read.
    """
    proofs: list[Proof] = []
    missing: list[ProofRole] = []
    for role in ROLES:
        proof = await _asked(bus, role, None) if ask_roles else None
        if proof is None and files[role].exists():
            stream = proofs[0].stream if proofs else await _stream(bus)
            proof = await asyncio.to_thread(_of_file, role, files[role], stream, None)
            if role == "writer":
                proof = await asyncio.to_thread(with_archive, proof, archives)
        if proof is None:
            missing.append(role)
        else:
            proofs.append(proof)
    if "writer" in missing:
        raise ConfigError(
            f"there are no books: {files['writer']} does not exist and no ledger answers. "
            "Is this the right data folder (--data DIR), and the right NATS (--nats-url URL)?"
        )
    sequence = min(proof.sequence for proof in proofs)
    digests: dict[str, str] = {}
    for each in proofs:
        same: Proof | None = each
        if each.sequence != sequence:
            same = await _asked(bus, each.role, sequence) if ask_roles else None
            path = files[each.role]
            if same is None and not path.exists():
                raise ConfigError(f"the {each.role} has gone away: try again")
            same = same or await asyncio.to_thread(_of_file, each.role, path, None, sequence)
        assert same is not None
        digests[each.role] = same.digest
    return Verified(
        proofs=tuple(proofs),
        sequence=sequence,
        digests=digests,
        missing=tuple(missing),
        findings=_disagreement(sequence, digests),
    )


def _disagreement(sequence: int, digests: dict[str, str]) -> tuple[Finding, ...]:
    if len(set(digests.values())) <= 1:
        return ()
    told = ", ".join(f"{role} {found}" for role, found in digests.items())
    return (
        Finding(
            fault="digest",
            detail=f"the books differ at message {sequence}: {told}",
            remedy=f"`tallygate replay --into FILE --until {sequence}` builds a third one "
            "and tells which of the two is right; move the other one's file away, it is built anew",
        ),
    )


async def _stream(bus: Bus) -> StreamFacts | None:
    try:
        return stream_facts(await bus.stream_state(USAGE.name))
    except BusError:
        # This NATS user may not ask it; a role that runs has asked by itself.
        return None


async def _asked(bus: Bus, role: ProofRole, sequence: int | None) -> Proof | None:
    """Ask a running role; None where it does not run."""
    request = msgspec.json.encode(ProofRequest(id=token_hex(8), sequence=sequence))
    try:
        async with asyncio.timeout(PROOF_TIMEOUT_S):
            while True:
                try:
                    payload = await bus.request(
                        proof_subject(role), request, timeout_s=REQUEST_TIMEOUT_S
                    )
                except BusUnavailable:
                    return None
                reply = msgspec.json.decode(payload, type=ProofReply)
                if reply.error is not None:
                    raise ConfigError(reply.error)
                if reply.proof is not None:
                    return reply.proof
    except TimeoutError:
        raise ConfigError(f"the {role} has not proved its books in {PROOF_TIMEOUT_S} s") from None


def _of_file(
    role: ProofRole, path: Path, stream: StreamFacts | None, sequence: int | None
) -> Proof:
    try:
        with read_books(path) as connection:
            if sequence is not None:
                return digest_at(connection, role, sequence)
            return prove(connection, PriceBook.load(), role, stream)
    except duckdb.Error as error:
        raise ConfigError(_unreadable(role, path, error)) from None


def _unreadable(role: ProofRole, path: Path, error: Exception) -> str:
    reason = str(error).split("\n", 1)[0][:300]
    if "lock" in reason:
        return (
            f"{path} is open in another process, which does not answer. If the {role} is just "
            "starting, try again in some seconds"
        )
    return (
        f"{path} cannot be read ({reason}). If it is damaged, move it and its .wal away and start "
        "the ledger: it is built anew from the stream"
    )
