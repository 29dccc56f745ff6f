"""Reading the forms of pages."""

import asyncio
from typing import Any
from urllib.parse import parse_qsl

from litestar import Request

from schemas.errors import BadRequest
from services.admin.reading import BODY_TIMEOUT_S

__all__ = ["FIELDS_MAX", "Fields", "read_fields", "read_form"]

FIELDS_MAX = 2000
_TYPE = "application/x-www-form-urlencoded"


Fields = dict[str, tuple[str, ...]]
"""A form's values by the names of its fields: a name has as many as were chosen."""


async def read_form(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Return a form's fields; of those with the same name the values, separated by commas.

    Raises BadRequest for what is no form of ours.
    """
    fields = await read_fields(request)
    return {name: ",".join(each for each in values if each) for name, values in fields.items()}


async def read_fields(request: Request[Any, Any, Any]) -> Fields:
    """Return a form's fields with all of their values. Raises BadRequest as `read_form` does."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _TYPE:
        raise BadRequest("a form was expected")
    async with asyncio.timeout(BODY_TIMEOUT_S):
        payload = await request.body()
    try:
        pairs = parse_qsl(
            payload.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict"
        )
    except (ValueError, UnicodeDecodeError):
        raise BadRequest("the form cannot be read") from None
    fields: Fields = {}
    for name, value in pairs:
        fields[name] = (*fields.get(name, ()), value)
    return fields
