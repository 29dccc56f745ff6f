"""What guardrails find in the parts of a request: pure, and remembered by the parts' digests.

A client sends its whole conversation with each request. A part (a message, the system prompt) that
was looked at once is known by its SHA-256, so that only what is new is looked at.
"""

from collections.abc import Hashable, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from services.proxy.json_members import Span, elements_of, members_of
from services.proxy.json_texts import Patch, TextAt, places_in, texts_in
from services.proxy.said import is_of_assistant, said_in

if TYPE_CHECKING:
    from services.guardrails import Finding, Scanner

__all__ = [
    "PARTS_KEPT_MAX",
    "TOGETHER_BYTES",
    "Look",
    "Memory",
    "MessagesRequest",
    "Part",
    "Screening",
    "Seen",
    "Verdict",
    "look_at",
    "parts_of",
    "requests_in",
]

PARTS_KEPT_MAX = 50_000
"""A worker remembers so many parts, about 250 bytes each; those used longest ago go first."""
FINDINGS_KEPT_MAX = 1_000
"""What was found in a part with more findings is not remembered: it is looked at each time."""


TOGETHER_BYTES = 1 << 20
"""So much of a body is decoded and scanned in one go: more would only hold more memory."""


class Look(msgspec.Struct, frozen=True):
    """One guardrail's way to look at a text."""

    scanner: "Scanner"
    is_masking: bool


class Seen(msgspec.Struct, frozen=True, gc=False):
    """What was found in one text: a rule, how often, and the content block (None: no block).

    `digest` stands for the text.
    """

    rule: str
    category: str
    block: int | None
    count: int
    digest: bytes


class Verdict(msgspec.Struct, frozen=True):
    """What one guardrail found in a part, and what masks it; patches count from its start."""

    seen: tuple[Seen, ...] = ()
    patches: tuple[Patch, ...] = ()


_CLEAN = Verdict()


class Part(msgspec.Struct):
    """A part of a body that says something: the system prompt, or a message.

    `verdicts` are those of the guardrails that found something, by their names.
    """

    place: str
    start: int
    end: int
    is_message: bool
    verdicts: dict[str, Verdict] = {}


class MessagesRequest(msgspec.Struct, frozen=True):
    """A Messages request: a whole body, or one of those in a message batch.

    `start` is where it begins in the body; the places of its `members` count from there. `place`
    is empty, or says which of a batch it is, with a full stop.
    """

    place: str
    start: int
    text: bytes
    members: Mapping[str, Span]


def requests_in(body: bytes, *, is_batch: bool) -> list[MessagesRequest]:
    """Return the Messages requests in a body. Raises as members_of and elements_of do."""
    members = members_of(body)
    if not is_batch:
        return [MessagesRequest("", 0, body, members)]
    first, end = members["requests"]
    requests: list[MessagesRequest] = []
    for number, (start, stop) in enumerate(elements_of(body[first:end])):
        begin, over = members_of(body[first + start : first + stop])["params"]
        begin, over = first + start + begin, first + start + over
        text = body[begin:over]
        requests.append(MessagesRequest(f"requests[{number}].", begin, text, members_of(text)))
    return requests


def parts_of(request: MessagesRequest) -> list[Part]:
    """Return the parts of a request that say something. Raises as elements_of does."""
    parts: list[Part] = []
    begin, place, members = request.start, request.place, request.members
    if (system := members.get("system")) is not None:
        start, end = system
        parts.append(Part(f"{place}system", begin + start, begin + end, is_message=False))
    if (messages := members.get("messages")) is not None:
        first, end = messages
        parts += (
            Part(
                f"{place}messages[{number}]",
                begin + first + start,
                begin + first + stop,
                is_message=True,
            )
            for number, (start, stop) in enumerate(elements_of(request.text[first:end]))
        )
    return parts


def look_at(
    parts: Sequence[tuple[bytes, bool]], looks: Sequence[Look]
) -> list[tuple[Verdict, ...] | None]:
    """Return each guardrail's verdict on each part, None where nobody found anything.

    With a part it is said whether it is a message. What an assistant said came from the API and is
    not looked at. Raises ValueError as is_of_assistant does.
    """
    verdicts: list[tuple[Verdict, ...] | None] = []
    group: list[tuple[bytes, bool]] = []
    size = 0
    for each in parts:
        group.append(each)
        size += len(each[0])
        if size >= TOGETHER_BYTES:
            verdicts += Screening(group, looks).verdicts()
            group, size = [], 0
    return verdicts + Screening(group, looks).verdicts()


class Screening:
    """A first look at parts, which is fast whatever they say; `verdicts` may take longer.

    Places are asked for where something was found, which is rare, and where it cannot be told
    quickly what is said.
    """

    def __init__(self, parts: Sequence[tuple[bytes, bool]], looks: Sequence[Look]) -> None:
        """`parts` and `looks` are those of look_at. Raises ValueError as it does."""
        from services.guardrails import Texts

        self._parts = parts
        self._looks = looks
        self._said = [said_in(part, is_message=is_message) for part, is_message in parts]
        self._texts = [text for each in self._said if each for text in each]
        self._together = Texts(self._texts)
        searched = sum(look.scanner.bytes_to_search(self._together) for look in looks)
        unclear = (
            len(part) for (part, _), each in zip(parts, self._said, strict=True) if each is None
        )
        self.bytes_left = searched + sum(unclear) + (len(self._texts) if searched else 0)
        """What is still to be looked at; a text counts for one more, since it may be asked where
        it stands."""

    def verdicts(self) -> list[tuple[Verdict, ...] | None]:
        """Return what look_at does."""
        found = [look.scanner.scan_all(self._together) for look in self._looks]
        verdicts: list[tuple[Verdict, ...] | None] = []
        first = 0
        for (part, is_message), said in zip(self._parts, self._said, strict=True):
            if said is None:
                verdicts.append(_look_slowly(part, self._looks, {}, is_message=is_message))
                continue
            numbers = range(first, first + len(said))
            first = numbers.stop
            if any(number in each for each in found for number in numbers):
                known = {self._texts[n]: [each.get(n, []) for each in found] for n in numbers}
                verdicts.append(_look_slowly(part, self._looks, known, is_message=is_message))
            else:
                verdicts.append(None)
        return verdicts


def _look_slowly(
    part: bytes,
    looks: Sequence[Look],
    known: "Mapping[str, Sequence[list[Finding]]]",
    *,
    is_message: bool,
) -> tuple[Verdict, ...] | None:
    """Return the verdicts on one part, with places; `known` is what was found in some texts."""
    if is_message and is_of_assistant(part):
        return None
    seen: list[list[Seen]] = [[] for _ in looks]
    patches: list[list[Patch]] = [[] for _ in looks]
    for text in texts_in(part):
        findings = known.get(text.text)
        if findings is None:
            findings = [look.scanner.scan(text.text) for look in looks]
        for number, (look, found) in enumerate(zip(looks, findings, strict=True)):
            if not found:
                continue
            seen[number] += _seen(part, text, found, is_message=is_message)
            if look.is_masking:
                patches[number] += _masks(part, text, found)
    if not any(seen):
        return None
    return tuple(
        Verdict(tuple(each), tuple(masks)) if each else _CLEAN
        for each, masks in zip(seen, patches, strict=True)
    )


def _seen(part: bytes, text: TextAt, found: "list[Finding]", *, is_message: bool) -> list[Seen]:
    counts: dict[tuple[str, str], int] = {}
    for finding in found:
        name = (finding.rule, finding.category)
        counts[name] = counts.get(name, 0) + 1
    block = _block_at(part, text.start) if is_message else None
    digest = sha256(part[text.start : text.end]).digest()
    return [Seen(rule, category, block, n, digest) for (rule, category), n in counts.items()]


def _block_at(message: bytes, position: int) -> int | None:
    """Return which block of a message's content a position is in."""
    try:
        start, end = members_of(message)["content"]
        blocks = elements_of(message[start:end])
    except (KeyError, ValueError, msgspec.MsgspecError):
        return None
    return next(
        (number for number, (_, stop) in enumerate(blocks) if position < start + stop), None
    )


def _masks(part: bytes, text: TextAt, found: "list[Finding]") -> list[Patch]:
    literal = part[text.start : text.end]
    offsets = [offset for each in found for offset in (each.start, each.end)]
    places = places_in(literal, text.text, offsets)
    return [
        Patch(
            text.start + places[each.start],
            text.start + places[each.end],
            msgspec.json.encode(f"[MASKED:{each.rule}]")[1:-1],
        )
        for each in found
    ]


class Memory:
    """The verdicts on the parts that were looked at last, by who looked and the part's digest."""

    def __init__(self, parts_max: int = PARTS_KEPT_MAX) -> None:
        self._parts_max = parts_max
        self._verdicts: dict[Hashable, tuple[Verdict, ...] | None] = {}

    def recall(self, key: Hashable) -> tuple[bool, tuple[Verdict, ...] | None]:
        """Return whether a part is known, and the verdicts on it."""
        if key not in self._verdicts:
            return False, None
        verdicts = self._verdicts[key] = self._verdicts.pop(key)
        return True, verdicts

    def keep(self, key: Hashable, verdicts: tuple[Verdict, ...] | None) -> None:
        """Remember the verdicts on a part, unless they are too many."""
        if verdicts and sum(len(each.seen) + len(each.patches) for each in verdicts) > (
            FINDINGS_KEPT_MAX
        ):
            return
        self._verdicts[key] = verdicts
        if len(self._verdicts) > self._parts_max:
            del self._verdicts[next(iter(self._verdicts))]

    def clear(self) -> None:
        """Forget everything."""
        self._verdicts.clear()

    def __len__(self) -> int:
        """Return how many parts are known."""
        return len(self._verdicts)
