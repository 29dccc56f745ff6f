"""Has requests pass their guardrails, and tells what those found."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

import msgspec

from schemas.errors import BadRequest
from schemas.events import GuardrailHit
from schemas.guardrails import (
    FINDINGS_MAX,
    Guardrail,
    GuardrailAction,
    GuardrailFinding,
    GuardrailMode,
    Webhook,
)
from services.proxy.asking import Asker, Objection, texts_to_ask
from services.proxy.draft import Draft, now_us
from services.proxy.guards import Guards, blocked, unreachable
from services.proxy.headers import RawHeaders
from services.proxy.hearing import Hearing
from services.proxy.json_texts import Patch, patched
from services.proxy.request_rules import broken_rule
from services.proxy.scanning import (
    Look,
    Memory,
    MessagesRequest,
    Part,
    Screening,
    Verdict,
    look_at,
    parts_of,
    requests_in,
)
from services.proxy.upstream import Transport
from services.runtime.guardrail_scanners import scanner_of

__all__ = [
    "INLINE_BYTES_MAX",
    "INLINE_SEARCH_BYTES_MAX",
    "REMEMBERED_PARTS_MAX",
    "TOLD_KEPT_MAX",
    "Guarding",
]

INLINE_BYTES_MAX = 64 * 1024
"""More new content than this is looked at in a thread, so that other requests go on meanwhile. The
first look at so much takes 0.4 ms, and 5 ms at most, whatever it says (measured)."""
INLINE_SEARCH_BYTES_MAX = 4 * 1024
"""More than this that is to be looked at once more, since something may be there, is looked at in a
thread, too: a hostile text of 64 KiB takes 60 ms (measured), one of this length 5."""
REMEMBERED_PARTS_MAX = 10_000
"""A body with more parts (a large batch) is looked at as a whole and not remembered: it would
put everything else out of the memory."""
TOLD_KEPT_MAX = 20_000
"""A worker remembers of so many texts with findings that it has told of them."""

_RULES_PLACE = {"tools_denied": "tools", "betas_allowed": "headers", "system_required": "system"}
_ODD = (
    "The request body must have each key once, spelled without escapes: it is checked by a "
    "guardrail"
)
_TAKE_OUT = "Take it out of the conversation (Claude Code: /rewind or /clear) and ask again"


_Unknown = tuple[Part, bytes, tuple[tuple[str, ...], bytes] | None]
"""A part, its bytes, and the key that it is remembered by; None: it is not."""


class Guarding:
    """The guardrails at work in one worker. `report` is told what they find, before it counts."""

    def __init__(self, report: Callable[[GuardrailHit], None]) -> None:
        self._report = report
        self._asker = Asker()
        self._memory = Memory()
        self._told: dict[tuple[str, str, bytes], None] = {}
        self._guards: Guards | None = None

    async def check(self, draft: Draft, headers: RawHeaders, body: bytes) -> bytes:
        """Have a request pass its draft's guardrails; return its body, masked where one masks.

        Rules about requests come first, then those about texts; each looks at the request as it
        came. Raises Forbidden where one blocks it, BadRequest where its body could mean two things.
        """
        guardrails = [each for each in draft.guardrails if each.looks_at_requests]
        if not guardrails:
            return body
        is_batch = draft.endpoint == "batches"
        reading = [each for each in guardrails if each.kind != "request_rules"]

        def read() -> tuple[list[MessagesRequest], list[Part]]:
            requests = requests_in(body, is_batch=is_batch)
            return requests, [part for each in requests for part in parts_of(each)]

        try:
            # A batch may have 100,000 requests.
            requests, parts = await asyncio.to_thread(read) if is_batch else read()
            if draft.endpoint != "count_tokens":
                self._check_rules(guardrails, draft, headers, requests)
            if not reading:
                return body
            self._take(draft.setup.guards)
            looking = [each for each in reading if each.webhook is None]
            if looking:
                await self._look(looking, parts, body)
        except (ValueError, KeyError, RecursionError, msgspec.MsgspecError):
            raise BadRequest(_ODD) from None
        return await self._masked(reading, parts, draft, body)

    async def check_file(self, draft: Draft, texts: Sequence[str]) -> list[str]:
        """Have the texts of a file pass; return them, masked where a guardrail masks.

        Raises Forbidden where one blocks them.
        """
        reading = [
            each
            for each in draft.guardrails
            if each.looks_at_requests and each.kind != "request_rules"
        ]
        body = msgspec.json.encode(texts)
        parts = [Part("file", 0, len(body), is_message=False)]
        self._take(draft.setup.guards)
        looking = [each for each in reading if each.webhook is None]
        if looking:
            await self._look(looking, parts, body)
        return msgspec.json.decode(await self._masked(reading, parts, draft, body), type=list[str])

    async def _masked(
        self, reading: Sequence[Guardrail], parts: Sequence[Part], draft: Draft, body: bytes
    ) -> bytes:
        """Ask services, tell what all found, and return the body masked. Raises as check does."""
        patches: list[Patch] = []
        for guardrail in reading:
            action = guardrail.action
            if guardrail.webhook is not None:
                await self._ask(guardrail, guardrail.webhook, parts, draft, body)
                action = "log" if action == "log" else "mask"
            patches += self._settle(guardrail, action, parts, draft)
        return patched(body, patches) if patches else body

    def _check_rules(
        self,
        guardrails: Sequence[Guardrail],
        draft: Draft,
        headers: RawHeaders,
        requests: Sequence[MessagesRequest],
    ) -> None:
        for guardrail in guardrails:
            if guardrail.kind != "request_rules":
                continue
            found: list[GuardrailFinding] = []
            reason: str | None = None
            for each in requests:
                violation = broken_rule(guardrail.rules, headers, each.text, each.members)
                if violation is None:
                    continue
                rule = violation.rule
                place = each.place + _RULES_PLACE.get(rule, "body")
                found.append(GuardrailFinding(rule=rule, category="request_rules", place=place))
                reason = violation.reason
                if guardrail.action == "block":
                    break
            if reason is None:
                continue
            self._tell(guardrail, draft, found, guardrail.action)
            if guardrail.action == "block":
                raise blocked(guardrail, reason)

    def _take(self, guards: Guards) -> None:
        """Forget what was found under other settings, which find other things."""
        if guards is not self._guards:
            self._guards = guards
            self._memory.clear()
            self._told.clear()

    def _unknown(self, names: Sequence[str], parts: Sequence[Part], body: bytes) -> list[_Unknown]:
        """Set the verdicts of some guardrails on the parts that are known; return all others."""
        if len(parts) > REMEMBERED_PARTS_MAX:
            return [(part, body[part.start : part.end], None) for part in parts]
        who = tuple(names)
        unknown: list[_Unknown] = []
        view = memoryview(body)
        for part in parts:
            key = (who, sha256(view[part.start : part.end]).digest())
            is_known, verdicts = self._memory.recall(key)
            if not is_known:
                unknown.append((part, body[part.start : part.end], key))
            elif verdicts is not None:
                part.verdicts |= zip(who, verdicts, strict=True)
        return unknown

    async def _look(self, looking: Sequence[Guardrail], parts: Sequence[Part], body: bytes) -> None:
        """Set the verdicts of scanners on all parts; those alone are scanned that are not known."""
        names = [each.name for each in looking]
        unknown = self._unknown(names, parts, body)
        if not unknown:
            return
        looks = [Look(scanner_of(each), each.action == "mask") for each in looking]

        texts = [(text, part.is_message) for part, text, _ in unknown]
        if sum(len(text) for text, _ in texts) > INLINE_BYTES_MAX:
            found = await asyncio.to_thread(look_at, texts, looks)
        else:
            screening = Screening(texts, looks)
            is_long = screening.bytes_left > INLINE_SEARCH_BYTES_MAX
            verdicts_of = screening.verdicts
            found = await asyncio.to_thread(verdicts_of) if is_long else verdicts_of()
        self._keep(unknown, found)
        for (part, _, _), verdicts in zip(unknown, found, strict=True):
            if verdicts is not None:
                part.verdicts |= zip(names, verdicts, strict=True)

    async def _ask(
        self,
        guardrail: Guardrail,
        webhook: Webhook,
        parts: Sequence[Part],
        draft: Draft,
        body: bytes,
    ) -> None:
        """Set the verdicts of a service on all parts; it is asked about those that are not known.

        Raises Forbidden where it blocks, Unavailable where it cannot be asked and must be.
        """
        unknown = self._unknown([guardrail.name], parts, body)
        if not unknown:
            return
        place = unknown[0][0].place if len(unknown) == 1 else "messages"
        try:
            texts = [texts_to_ask(text, is_message=part.is_message) for part, text, _ in unknown]
            verdicts = await self._asker.verdicts(webhook, texts, draft)
        except (ValueError, msgspec.MsgspecError):
            raise BadRequest(_ODD) from None
        except Objection as objection:
            rule = "blocked" if objection.is_block else "unreachable"
            finding = GuardrailFinding(rule=rule, category="webhook", place=place)
            is_let_through = guardrail.action == "log" or (
                not objection.is_block and webhook.unreachable_fallback == "fail_open"
            )
            self._tell(guardrail, draft, [finding], "log" if is_let_through else "block")
            if is_let_through:
                if objection.is_block:
                    # It is told once.
                    self._keep(unknown, [None] * len(unknown))
                return
            if objection.is_block:
                raise blocked(guardrail, objection.reason) from None
            raise unreachable(guardrail, objection.reason) from None
        self._keep(unknown, [None if each is None else (each,) for each in verdicts])
        for (part, _, _), verdict in zip(unknown, verdicts, strict=True):
            if verdict is not None:
                part.verdicts[guardrail.name] = verdict

    def _keep(
        self, unknown: Sequence[_Unknown], found: Sequence[tuple[Verdict, ...] | None]
    ) -> None:
        """Remember the verdicts on parts."""
        for (_, _, key), verdicts in zip(unknown, found, strict=True):
            if key is not None:
                self._memory.keep(key, verdicts)

    def _settle(
        self, guardrail: Guardrail, action: GuardrailAction, parts: Sequence[Part], draft: Draft
    ) -> list[Patch]:
        """Tell what a guardrail found, return what masks it. Raises Forbidden where it blocks."""
        found: list[GuardrailFinding] = []
        news: list[tuple[str, str, bytes]] = []
        patches: list[Patch] = []
        is_block = action == "block"
        for part in parts:
            verdict = part.verdicts.get(guardrail.name)
            if verdict is None:
                continue
            for seen in verdict.seen:
                key = (guardrail.name, seen.rule, seen.digest)
                if key in self._told and not is_block:
                    continue
                news.append(key)
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
            self._tell(guardrail, draft, found, action)
            self._remember(news)
            if is_block:
                first = found[0]
                out = _TAKE_OUT if draft.endpoint != "files" else "Take it out of the file"
                raise blocked(
                    guardrail, f"it found {first.rule} in {first.place}, so nothing was sent. {out}"
                )
        return patches if action == "mask" else []

    def hearing(
        self, transport: Transport, draft: Draft, request_id: Callable[[], str]
    ) -> Transport:
        """Return a transport through which the draft's guardrails hear the answer.

        It is the same one where none looks at answers. `request_id` says under which id the
        attempt is booked that is answered.
        """
        listening = [each for each in draft.guardrails if each.looks_at_answers]
        if not listening or draft.endpoint != "messages":
            return transport

        def tell(guardrail: Guardrail, found: Sequence[GuardrailFinding]) -> None:
            self._report(_hit(guardrail, draft, found, "log", "post_call", request_id()))

        return Hearing(transport, listening, tell)

    async def aclose(self) -> None:
        """Close the connections to services that were asked."""
        await self._asker.aclose()

    def _remember(self, news: Iterable[tuple[str, str, bytes]]) -> None:
        """Remember that findings were told: by which guardrail and rule, in which text."""
        self._told.update(dict.fromkeys(news))
        while len(self._told) > TOLD_KEPT_MAX:
            del self._told[next(iter(self._told))]

    def _tell(
        self,
        guardrail: Guardrail,
        draft: Draft,
        found: Sequence[GuardrailFinding],
        action: GuardrailAction,
    ) -> None:
        mode = next(each for each in guardrail.modes if each != "post_call")
        self._report(_hit(guardrail, draft, found, action, mode, draft.request_id))


def _hit(
    guardrail: Guardrail,
    draft: Draft,
    found: Sequence[GuardrailFinding],
    action: GuardrailAction,
    mode: GuardrailMode,
    request_id: str,
) -> GuardrailHit:
    facts = msgspec.structs.asdict(draft.facts())
    return GuardrailHit(
        **(facts | {"request_id": request_id}),
        found_at_us=max(now_us(), draft.started_at_us),
        guardrail=guardrail.name,
        kind=guardrail.kind,
        mode=mode,
        action=action,
        findings=_told(found),
    )


def _told(found: Sequence[GuardrailFinding]) -> tuple[GuardrailFinding, ...]:
    """Return findings as an event may hold them."""
    if len(found) <= FINDINGS_MAX:
        return tuple(found)
    left = sum(each.count for each in found[FINDINGS_MAX:])
    others = GuardrailFinding(rule="others", category="others", place="", count=left)
    return (*found[:FINDINGS_MAX], others)
