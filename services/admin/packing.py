"""Answers that never change while the process runs: packed once, for clients that unpack."""

import gzip
from typing import Any

import msgspec
from litestar import Request, Response

__all__ = ["Packed"]


class Packed(msgspec.Struct, frozen=True):
    """A document as it is and packed."""

    content: bytes
    gzipped: bytes

    @classmethod
    def of(cls, content: bytes) -> "Packed":
        """Return a document, packed as small as can be."""
        return cls(content, gzip.compress(content, 9, mtime=0))

    def answer(
        self, request: Request[Any, Any, Any], media_type: str, headers: dict[str, str]
    ) -> Response[bytes]:
        """Return the answer in the form that the client takes."""
        given = {**headers, "vary": "accept-encoding"}
        content = self.content
        if "gzip" in request.headers.get("accept-encoding", ""):
            content = self.gzipped
            given["content-encoding"] = "gzip"
        return Response(content=content, media_type=media_type, headers=given)
