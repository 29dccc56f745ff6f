"""Has guardrails of the mode `post_call` look at answers, after they have passed.

A stream is passed on as it comes, so nothing in it can be taken back: what is found is told.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from schemas.guardrails import Guardrail, GuardrailFinding
from services.proxy.answer_texts import Heard, heard_of, texts_of_answer
from services.proxy.headers import RawHeaders, header_values
from services.proxy.upstream import Transport, UpstreamRequest, UpstreamResponse
from services.runtime.guardrail_scanners import scanner_of

__all__ = ["Hearing", "findings_in"]

INLINE_BYTES_MAX = 64 * 1024
"""A longer answer is looked at in a thread."""

Tell = Callable[[Guardrail, Sequence[GuardrailFinding]], None]


def findings_in(
    guardrails: Sequence[Guardrail], body: bytes, *, is_stream: bool
) -> list[tuple[Guardrail, list[GuardrailFinding]]]:
    """Return what guardrails find in an answer, those alone that find something."""
    from services.guardrails import Texts

    texts = [
        (index, text)
        for index, pieces in texts_of_answer(body, is_stream=is_stream).items()
        for text in pieces
    ]
    together = Texts([text for _, text in texts])
    told: list[tuple[Guardrail, list[GuardrailFinding]]] = []
    for guardrail in guardrails:
        scanner = scanner_of(guardrail)
        counts: dict[tuple[str, str, str], int] = {}
        for number, found in sorted(scanner.scan_all(together).items()):
            for each in found:
                name = (each.rule, each.category, f"answer.content[{texts[number][0]}]")
                counts[name] = counts.get(name, 0) + 1
        findings = [
            GuardrailFinding(rule=rule, category=category, place=place, count=count)
            for (rule, category, place), count in counts.items()
        ]
        if findings:
            told.append((guardrail, findings))
    return told


class Hearing:
    """A transport for one client's request, whose answers guardrails look at. Is a Transport."""

    def __init__(self, transport: Transport, guardrails: Sequence[Guardrail], tell: Tell) -> None:
        self._transport = transport
        self._guardrails = guardrails
        self._tell = tell

    async def handle_async_request(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send a request; see Transport."""
        response = await self._transport.handle_async_request(request)
        if response.status != 200:  # noqa: PLR2004 - an error says nothing of a model's
            return response
        return _Heard(response, self._guardrails, self._tell)

    async def aclose(self) -> None:
        """Do nothing: the connections are another's."""


class _Heard:
    """An answer of which a copy is taken while it passes, and looked at when it is over."""

    def __init__(
        self, response: UpstreamResponse, guardrails: Sequence[Guardrail], tell: Tell
    ) -> None:
        self._response = response
        self._guardrails = guardrails
        self._tell = tell
        # A connection that is given back forgets its answer.
        self.status: int = response.status
        self.headers: RawHeaders = response.headers
        codings = header_values(response.headers, b"content-encoding")
        kinds = header_values(response.headers, b"content-type")
        self._is_stream = bool(kinds) and kinds[0].lower().startswith(b"text/event-stream")
        self._copy: Heard | None
        self._copy, self._feed = heard_of(codings[0] if codings else b"")

    async def chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        """Yield what comes; see UpstreamResponse."""
        async for chunk, is_last in self._response.chunks():
            yield chunk, is_last
            self._feed(chunk)

    async def aclose(self) -> None:
        """Give the connection back, then look at what has passed."""
        await self._response.aclose()
        copy, self._copy = self._copy, None
        if copy is None:
            return
        body = bytes(copy.body)

        def look() -> list[tuple[Guardrail, list[GuardrailFinding]]]:
            return findings_in(self._guardrails, body, is_stream=self._is_stream)

        found = await asyncio.to_thread(look) if len(body) > INLINE_BYTES_MAX else look()
        for guardrail, findings in found:
            self._tell(guardrail, findings)
