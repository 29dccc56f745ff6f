"""The table of refusals in docs/claude-code.md, as something that can be asserted."""

import re
from pathlib import Path

import msgspec

__all__ = ["Refusal", "documented_refusals"]

_DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "claude-code.md"
_HEADING = "| refusal | status, `error.type` | further headers | the user sees | requests |"
_COLUMNS = 5


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `shown` and `requests` are the cells as they stand."""

    name: str
    status: int
    error_type: str
    headers: tuple[str, ...]
    shown: str
    requests: str

    @property
    def comes_from_the_client(self) -> bool:
        """Whether Claude Code can be brought to it at all."""
        return bool(self.requests)

    def text(self, sign_in: str) -> str:
        """Return what the user sees who signed in "with a subscription", say.

        That is the code after these words, or else the first code of the cell.
        """
        other = re.search(rf"{sign_in}: `([^`]+)`", self.shown)
        first = re.search(r"`([^`]+)`", self.shown)
        found = other or first
        assert found is not None, self.name
        return found[1]

    def requests_for(self, sign_in: str, retries: int) -> int:
        """Return how often the client asks, with so many retries."""
        other = re.search(rf"(\d+) {sign_in}", self.requests)
        if other is not None:
            return int(other[1])
        found = re.match(r"(\d+)( \+ n)?", self.requests)
        assert found is not None, self.name
        return int(found[1]) + (retries if found[2] else 0)


def documented_refusals() -> dict[str, Refusal]:
    """Return all rows by their first cell."""
    lines = _DOCUMENT.read_text().splitlines()
    start = lines.index(_HEADING) + 2
    rows = {}
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == _COLUMNS, line
        status = re.fullmatch(r"(\d{3}) `(\w+)`", cells[1])
        assert status is not None, line
        rows[cells[0]] = Refusal(
            name=cells[0],
            status=int(status[1]),
            error_type=status[2],
            headers=tuple(re.findall(r"`([a-z-]+)`", cells[2])),
            shown=cells[3],
            requests=cells[4],
        )
    return rows
