"""Where statements end in what is being typed, and where in them an error is."""

import re

__all__ = ["pointed", "split"]

_OPENING = re.compile(
    r"(?P<line>--)|(?P<block>/\*)|(?P<escaped>\b[eE]')|(?P<quote>['\"])"
    r"|(?P<dollar>\$(?:[A-Za-z_]\w*)?\$)|(?P<end>;)"
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_ESCAPED_END = re.compile(r"(?:[^'\\]|\\.)*'", re.DOTALL)
_PLACE = re.compile(r"\(at character (\d+)\)")


def split(text: str) -> tuple[list[str], str]:
    """Return the statements that end in `text`, without their semicolons, and what is left.

    A semicolon in quotes ('…', "…", e'…', $tag$…$tag$) or in a comment ends nothing.
    """
    statements: list[str] = []
    start = position = 0
    while found := _OPENING.search(text, position):
        if found["end"]:
            statements.append(text[start : found.start()])
            start = position = found.end()
            continue
        position = _closed_at(text, found)
        if position < 0:
            break
    return statements, text[start:]


def _closed_at(text: str, opening: re.Match[str]) -> int:
    """Return where what `opening` opens is over; -1 where it is still open."""
    after = opening.end()
    if opening["line"]:
        return text.find("\n", after)
    if opening["block"]:
        return _comment_end(text, after)
    if opening["escaped"]:
        end = _ESCAPED_END.match(text, after)
        return end.end() if end else -1
    # A doubled quote ends one text and begins the next: it needs no rule of its own.
    mark = opening.group()
    place = text.find(mark, after)
    return place + len(mark) if place >= 0 else -1


def _comment_end(text: str, position: int) -> int:
    """Return where a block comment ends; comments inside it count (as DuckDB's do)."""
    depth = 1
    while edge := _COMMENT_EDGE.search(text, position):
        depth += 1 if edge.group() == "/*" else -1
        position = edge.end()
        if depth == 0:
            return position
    return -1


def pointed(statement: str, message: str) -> str:
    """Return an error's message, with the line it is in and a mark below where it says that.

    The place is counted in characters, from 1.
    """
    place = _PLACE.search(message)
    if place is None:
        return message
    before = statement[: int(place[1]) - 1]
    number = before.count("\n")
    column = len(before) - (before.rfind("\n") + 1)
    lines = statement.split("\n")
    label = f"line {number + 1}: "
    return f"{message}\n{label}{lines[number]}\n{' ' * (len(label) + column)}^"
