"""Has requests pass their guardrails, and tells what those found."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

import msgspec

from schemas.errors import BadRequest
from schemas.events import GuardrailHit
from schemas.guardrails import FINDINGS_MAX, Guardrail, GuardrailFinding
from services.proxy.draft import Draft, now_us
from services.proxy.guards import Guards, blocked
from services.proxy.headers import RawHeaders
from services.proxy.json_members import Span, elements_of, members_of
from services.proxy.json_texts import Patch, patched
from services.proxy.request_rules import broken_rule
from services.proxy.scanning import Look, Memory, Verdict, look_at
from services.runtime.guardrail_scanners import scanner_of

__all__ = ["INLINE_BYTES_MAX", "TOLD_KEPT_MAX", "Guarding"]

INLINE_BYTES_MAX = 64 * 1024
"""More new content than this is looked at in a thread, so that other requests go on meanwhile."""
TOLD_KEPT_MAX = 20_000
"""A worker remembers of so many texts with findings that it has told of them."""

_RULES_PLACE = {"tools_denied": "tools", "betas_allowed": "headers", "system_required": "system"}
_ODD = (
    "The request body must have each key once, spelled without escapes: it is checked by a "
    "guardrail"
)
_TAKE_OUT = "Take it out of the conversation (Claude Code: /rewind or /clear) and ask again"


class _Part(msgspec.Struct):
    """A part of a body that says something: the system prompt, or a message."""

    place: str
    start: int
    end: int
    is_message: bool
    verdicts: tuple[Verdict, ...] | None = None


class Guarding:
    """The guardrails at work in one worker. `report` is told what they find, before it counts."""

    def __init__(self, report: Callable[[GuardrailHit], None]) -> None:
        self._report = report
        self._memory = Memory()
        self._told: dict[tuple[str, str, bytes], None] = {}
        self._guards: Guards | None = None

    async def check(
        self, guardrails: Sequence[Guardrail], draft: Draft, headers: RawHeaders, body: bytes
    ) -> bytes:
        """Have a request pass its guardrails; return its body, masked where one masks.

        Rules about requests come first, then those about texts; each looks at the request as it
        came. Raises Forbidden where one blocks it, BadRequest where its body could mean two things.
        """
        try:
            members = members_of(body)
            if draft.endpoint == "messages":
                self._check_rules(guardrails, draft, headers, body, members)
            reading = [each for each in guardrails if each.kind != "request_rules"]
            if not reading:
                return body
            parts = _parts(body, members)
            await self._look(reading, parts, draft, body)
        except (ValueError, RecursionError, msgspec.MsgspecError):
            raise BadRequest(_ODD) from None
        patches: list[Patch] = []
        for number, guardrail in enumerate(reading):
            patches += self._settle(guardrail, number, parts, draft)
        return patched(body, patches) if patches else body

    def _check_rules(
        self,
        guardrails: Sequence[Guardrail],
        draft: Draft,
        headers: RawHeaders,
        body: bytes,
        members: Mapping[str, Span],
    ) -> None:
        for guardrail in guardrails:
            if guardrail.kind != "request_rules":
                continue
            violation = broken_rule(guardrail.rules, headers, body, members)
            if violation is None:
                continue
            rule = violation.rule
            place = _RULES_PLACE.get(rule, "body")
            finding = GuardrailFinding(rule=rule, category="request_rules", place=place)
            self._tell(guardrail, draft, [finding])
            if guardrail.action == "block":
                raise blocked(guardrail, violation.reason)

    async def _look(
        self, reading: Sequence[Guardrail], parts: Sequence[_Part], draft: Draft, body: bytes
    ) -> None:
        """Set the verdicts on all parts; look at those alone that are not known."""
        if draft.setup.guards is not self._guards:
            # Other settings find other things.
            self._guards = draft.setup.guards
            self._memory.clear()
            self._told.clear()
        who = tuple(each.name for each in reading)
        unknown: list[tuple[_Part, bytes, tuple[tuple[str, ...], bytes]]] = []
        for part in parts:
            text = body[part.start : part.end]
            key = (who, sha256(text).digest())
            is_known, part.verdicts = self._memory.recall(key)
            if not is_known:
                unknown.append((part, text, key))
        if not unknown:
            return
        looks = [Look(scanner_of(each), each.action == "mask") for each in reading]

        def look() -> None:
            for part, text, _ in unknown:
                part.verdicts = look_at(text, looks, is_message=part.is_message)

        if sum(len(text) for _, text, _ in unknown) > INLINE_BYTES_MAX:
            await asyncio.to_thread(look)
        else:
            look()
        for part, _, key in unknown:
            self._memory.keep(key, part.verdicts)

    def _settle(
        self, guardrail: Guardrail, number: int, parts: Sequence[_Part], draft: Draft
    ) -> list[Patch]:
        """Tell what a guardrail found, return what masks it. Raises Forbidden where it blocks."""
        found: list[GuardrailFinding] = []
        patches: list[Patch] = []
        is_block = guardrail.action == "block"
        for part in parts:
            if part.verdicts is None:
                continue
            verdict = part.verdicts[number]
            for seen in verdict.seen:
                if not is_block and not self._is_news(guardrail.name, seen.rule, seen.digest):
                    continue
                block = f".content[{seen.block}]" if seen.block is not None else ""
                found.append(
                    GuardrailFinding(
                        rule=seen.rule,
                        category=seen.category,
                        place=part.place + block,
                        count=seen.count,
                    )
                )
            patches += (
                Patch(part.start + each.start, part.start + each.end, each.replacement)
                for each in verdict.patches
            )
        if found:
            self._tell(guardrail, draft, found)
            if is_block:
                first = found[0]
                raise blocked(
                    guardrail,
                    f"it found {first.rule} in {first.place}, so nothing was sent. {_TAKE_OUT}",
                )
        return patches

    def _is_news(self, guardrail: str, rule: str, digest: bytes) -> bool:
        """Tell whether a finding was not told yet, and remember that it is."""
        key = (guardrail, rule, digest)
        if key in self._told:
            return False
        self._told[key] = None
        if len(self._told) > TOLD_KEPT_MAX:
            del self._told[next(iter(self._told))]
        return True

    def _tell(self, guardrail: Guardrail, draft: Draft, found: Sequence[GuardrailFinding]) -> None:
        facts = msgspec.structs.asdict(draft.facts())
        self._report(
            GuardrailHit(
                **facts,
                found_at_us=max(now_us(), draft.started_at_us),
                guardrail=guardrail.name,
                kind=guardrail.kind,
                mode=guardrail.modes[0],
                action=guardrail.action,
                findings=_told(found),
            )
        )


def _parts(body: bytes, members: Mapping[str, Span]) -> list[_Part]:
    """Return the parts of a body that say something. Raises as elements_of does."""
    parts: list[_Part] = []
    if (system := members.get("system")) is not None:
        parts.append(_Part("system", *system, is_message=False))
    if (messages := members.get("messages")) is not None:
        first, end = messages
        parts += (
            _Part(f"messages[{number}]", first + start, first + stop, is_message=True)
            for number, (start, stop) in enumerate(elements_of(body[first:end]))
        )
    return parts


def _told(found: Sequence[GuardrailFinding]) -> tuple[GuardrailFinding, ...]:
    """Return findings as an event may hold them."""
    if len(found) <= FINDINGS_MAX:
        return tuple(found)
    left = sum(each.count for each in found[FINDINGS_MAX:])
    others = GuardrailFinding(rule="others", category="others", place="", count=left)
    return (*found[:FINDINGS_MAX], others)
