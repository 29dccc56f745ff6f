"""What `tallygate verify` and `replay` print for people. Pure."""

from pathlib import Path

from schemas.money import usd_text
from schemas.proof import Finding, Proof
from services.ledger.replay import Replayed
from services.ledger.verification import Verified

__all__ = ["replay_report", "verify_report"]


def verify_report(verified: Verified) -> str:
    """Return the proofs as text: figures first, the verdict last."""
    lines: list[str] = []
    for proof in verified.proofs:
        lines += [*_proof_lines(proof), ""]
    digests = list(verified.digests.items())
    if len(digests) > 1:
        agree = "the same" if len({found for _, found in digests}) == 1 else "NOT THE SAME"
        lines.append(f"at message {verified.sequence:,} both digests are {agree}")
        lines += [f"  {role:<8}{found}" for role, found in digests]
    lines += [f"there are no books of the {role} here" for role in verified.missing]
    findings = [
        *((proof.role, finding) for proof in verified.proofs for finding in proof.findings),
        *(("both", finding) for finding in verified.findings),
    ]
    for role, finding in findings:
        lines += _finding_lines(role, finding)
    if verified.is_proved:
        lines.append("proved: nothing is lost, nothing is doubled, every cost is computed again")
    else:
        lines.append(f"NOT PROVED: {len(findings)} faults")
    return "\n".join(lines) + "\n"


def _proof_lines(proof: Proof) -> list[str]:
    stream = "not asked"
    if proof.stream is not None:
        behind = proof.stream.last_sequence - proof.sequence
        stream = f"ends at {proof.stream.last_sequence:,}, {max(0, behind):,} to come"
    still_open = f"{proof.open:,} open"
    if proof.overdue:
        still_open += f" ({proof.overdue:,} of them overdue: the next message closes them as lost)"
    lost = f"{proof.lost:,} lost"
    if proof.corrected:
        lost += f" (of which {proof.corrected:,} ended after all)"
    facts = {
        "stream": f"stands at message {proof.sequence:,}; it {stream}",
        "events": f"{proof.events:,} of {proof.producers:,} producers, {proof.missing:,} missing; "
        f"{proof.repeats:,} repeats did not count",
        "started": f"{proof.started:,}: {proof.closed:,} ended, {lost}, {still_open}",
        "rows": f"{proof.rows:,}, {proof.refused:,} of them refusals",
        "guarded": f"{proof.guarded:,} events of guardrails that found something",
        "cost": f"{usd_text(proof.spend_usd)}; {proof.recomputed:,} rows computed again, "
        f"{proof.unpriced:,} unpriced",
        "letters": f"{proof.dead_letters:,} dead, {proof.dead_letters_of_producers:,} of producers",
        "digest": proof.digest,
    }
    title = f"{proof.role} ({proof.duration_s:.1f} s)"
    return [title, *(f"  {name:<9}{text}" for name, text in facts.items())]


def _finding_lines(role: str, finding: Finding) -> list[str]:
    return [f"FAULT ({role}, {finding.fault}): {finding.detail}", f"  what to do: {finding.remedy}"]


def replay_report(replayed: Replayed, path: Path) -> str:
    """Return what a replay made, as text."""
    rate = replayed.events / max(replayed.duration_s, 0.001)
    return (
        f"{path}: {replayed.requests:,} requests of {replayed.events:,} events, up to message "
        f"{replayed.sequence:,}; {replayed.keys:,} keys, {replayed.dead_letters:,} dead letters "
        f"({replayed.duration_s:.1f} s, {rate:,.0f} events a second)\n"
        f"digest at message {replayed.sequence}: {replayed.digest}\n"
    )
