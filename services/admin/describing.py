"""What a route's handler says of itself, for the guard and for the OpenAPI document."""

from typing import Any

import msgspec

from services.admin.access import Access

__all__ = ["Description", "described"]


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """One route: what it is for, what it takes and answers, and an example that is tested.

    `answer` is the type of the body of a 200, None for a page. `other_answer` is a second one.
    `table`: the answer can be had as CSV and Arrow, too. `versioned`: the answer is one record,
    and carries its ETag. A route that lists 412 among its `errors` compares `If-Match`.
    """

    summary: str
    description: str
    tag: str
    answer: Any
    other_answer: Any = None
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    example_body: dict[str, Any] | None = None
    example_query: str = ""
    errors: tuple[int, ...] = ()
    table: bool = False
    versioned: bool = False


def described(description: Description, access: Access = "admin") -> dict[str, Any]:
    """Return the `opt` of a handler. Without `access` the route is for admins alone."""
    return {"access": access, "description": description}
