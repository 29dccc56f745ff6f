"""The addresses of pages about teams, users and models, whose ids may hold any characters. Pure."""

from urllib.parse import quote, unquote

__all__ = ["id_in", "page_of"]

_DOTS = (".", "..")


def page_of(kind: str, object_id: str) -> str:
    """Return the address of the page of a team, a user or a model, such as `/ui/teams/blue`.

    A slash ends a part of a path even where it is escaped, so it is escaped twice, and dots alone
    mean another folder to a browser.
    """
    part = object_id.replace("%", "%25").replace("/", "%2F")
    if part in _DOTS:
        part = part.replace(".", "%2E")
    return f"/ui/{kind}s/{quote(part, safe='@:+')}"


def id_in(part: str) -> str:
    """Return the id that a part of a path stands for, once the server has read the path."""
    return unquote(part)
