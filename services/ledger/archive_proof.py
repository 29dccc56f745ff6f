"""What a proof says of the archive: every file read whole, and all of them one after the other."""

from pathlib import Path

import msgspec

from schemas.proof import Finding, Proof
from services.ledger.archive import Archive, ArchiveDamaged

__all__ = ["with_archive"]

FAULTS_TOLD_MAX = 20


def with_archive(proof: Proof, archives: Path) -> Proof:
    """Return a proof that also covers the archive of the stream that it is about.

    `archives` is the folder of the archive. A proof that knows no stream is returned as it is.
    """
    stream = proof.stream
    if stream is None:
        return proof
    archive = Archive(archives, stream.created)
    try:
        faults = archive.check()
        last = archive.last()
    except ArchiveDamaged as error:
        faults, last = [str(error)], 0
    if last > proof.sequence:
        faults.append(f"the archive ends at message {last}, the books already at {proof.sequence}")
    if stream.first_sequence > max(last, 0) + 1:
        faults.append(
            f"messages {last + 1} to {stream.first_sequence - 1} are neither in the stream nor in "
            "the archive"
        )
    findings = [
        Finding(
            fault="archive",
            detail=detail,
            remedy="restore the archive's folder from a backup; until then the books must not be "
            "lost, since they cannot be built anew",
        )
        for detail in faults[:FAULTS_TOLD_MAX]
    ]
    return msgspec.structs.replace(proof, archived=last, findings=(*proof.findings, *findings))
