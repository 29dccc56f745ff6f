"""The dashboard's files: styles, scripts and the font, all from this package.

A file's address holds a digest of its content, so browsers may keep it for good.
"""

import gzip
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
from litestar import Request, Response, get

from schemas.errors import NotFound

__all__ = ["ASSET_ROUTES", "Asset", "asset_url", "assets"]

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
_DIGEST_LENGTH = 12
_URL = re.compile(rb'url\("([^"]+)"\)')
_PACKED_SHARE_MAX = 0.9
_KEEP = "public, max-age=31536000, immutable"


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """One file: `gzipped` is None where packing gains nothing."""

    content: bytes
    gzipped: bytes | None
    media_type: str
    digest: str


@cache
def assets() -> dict[str, Asset]:
    """Return all files by name (`app.css`, `vendor/…`); read and packed once."""
    root = files("services.admin.ui").joinpath("static")
    contents = {
        prefix + file.name: file.read_bytes()
        for prefix, folder in (("", root), ("vendor/", root.joinpath("vendor")))
        for file in folder.iterdir()
        if file.is_file() and _suffix(file.name) in _TYPES
    }
    found = {name: _asset(content, name) for name, content in contents.items()}
    for name, content in contents.items():
        if name.endswith(".css"):
            found[name] = _asset(_with_addresses(content, found), name)
    return found


def _with_addresses(css: bytes, found: dict[str, Asset]) -> bytes:
    """Return styles whose `url("name")`s are the addresses of files."""
    return _URL.sub(lambda at: b'url("%s")' % _address(at[1].decode(), found).encode(), css)


def _address(name: str, found: dict[str, Asset]) -> str:
    return f"/ui/assets/{found[name].digest}/{name}"


def _suffix(name: str) -> str:
    return "." + name.rpartition(".")[2]


def _asset(content: bytes, name: str) -> Asset:
    packed = gzip.compress(content, 9, mtime=0)
    return Asset(
        content=content,
        gzipped=packed if len(packed) < len(content) * _PACKED_SHARE_MAX else None,
        media_type=_TYPES[_suffix(name)],
        digest=hashlib.sha256(content).hexdigest()[:_DIGEST_LENGTH],
    )


def asset_url(name: str) -> str:
    """Return the address of a file. Raises KeyError for a name that is none."""
    return _address(name, assets())


@get("/assets/{digest:str}/{name:path}", opt={"session": "none"})
async def asset(request: Request[Any, Any, Any], digest: str, name: str) -> Response[bytes]:
    """Serve one file. An address of another version is answered 404: its page is reloaded."""
    found = assets().get(name.removeprefix("/"))
    if found is None or found.digest != digest:
        raise NotFound("there is no such file; reload the page")
    headers = {"cache-control": _KEEP, "vary": "accept-encoding"}
    content = found.content
    if found.gzipped is not None and "gzip" in request.headers.get("accept-encoding", ""):
        content = found.gzipped
        headers["content-encoding"] = "gzip"
    headers["x-content-type-options"] = "nosniff"
    return Response(content=content, media_type=found.media_type, headers=headers)


ASSET_ROUTES = (asset,)
