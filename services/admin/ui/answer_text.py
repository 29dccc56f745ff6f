"""What a stored answer says: of a stream of events its text and tool calls, put together. Pure."""

from typing import Any

import msgspec

__all__ = ["said_in"]

_DATA = "data:"


def said_in(answer: str) -> str:
    """Return the text of an answer that is a stream of events; any other answer as it is."""
    if not answer.lstrip().startswith(("event:", _DATA)):
        return answer
    parts: list[str] = []
    for line in answer.splitlines():
        if line.startswith(_DATA):
            try:
                parts.append(_part(msgspec.json.decode(line.removeprefix(_DATA))))
            except msgspec.DecodeError:
                continue  # the stream was cut here
    return "".join(parts).strip() or answer


def _part(event: Any) -> str:
    """Return what one event adds to the text."""
    if not isinstance(event, dict):
        return ""
    if event.get("type") == "content_block_start":
        block = event.get("content_block") or {}
        kind = block.get("type", "")
        if kind == "text":
            return f"\n\n{block.get('text', '')}"
        return f"\n\n[{kind}{' ' + block['name'] if 'name' in block else ''}] "
    if event.get("type") == "content_block_delta":
        delta = event.get("delta") or {}
        return "".join(str(delta.get(name, "")) for name in ("text", "thinking", "partial_json"))
    return ""
