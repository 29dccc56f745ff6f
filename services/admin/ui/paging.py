"""Lists in pages: the next rows are fetched when one comes to the end of those that are shown."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from litestar import Request

from schemas.errors import BadRequest

__all__ = ["PAGE_SIZE", "next_page", "page_number"]

PAGE_SIZE = 50
"""So many rows at a time."""
PAGE_MAX = 1_000_000


def page_number(request: Request[Any, Any, Any]) -> int:
    """Return the number of the page that the address names. Raises BadRequest."""
    text = request.query_params.get("page") or "1"
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:8]) <= PAGE_MAX):
        raise BadRequest(f"page must be a number from 1 to {PAGE_MAX}", param="page")
    return int(text[:8])


def next_page(path: str, number: int, filters: Mapping[str, str]) -> str:
    """Return the address of the page after `number`, with what the list is filtered by."""
    kept = {name: value for name, value in filters.items() if value}
    return f"{path}?{urlencode({**kept, 'page': number + 1})}"
