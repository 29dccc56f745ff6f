"""GET /docs: the OpenAPI document as one page, without scripts and without other hosts."""

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Any

import msgspec

from services.admin.access import Access

__all__ = ["DOCS_HEADERS", "render_docs"]

_NEEDS: dict[Access, str] = {
    "public": "everybody, without a key",
    "own_key": "every key, which is shown what is its own",
    "analyst": "keys that may ask the ledger",
    "own": "every key in force, which is shown what is its own",
    "part": "keys of users with a role and of teams' admins, which are shown what is their own",
    "keys": "keys of those who may manage keys: proxy_admin, internal_user and teams' admins",
    "team": "keys of proxy_admin and of teams' admins",
    "read": "keys of proxy_admin and proxy_admin_viewer",
    "admin": "keys of proxy_admin",
}
"""Whom a kind of access admits, beside the master key."""
_STYLE = """
:root { color-scheme: light dark; }
html { background: #fff; color: #1b1b1f; }
a { color: #0a4fa3; }
@media (prefers-color-scheme: dark) {
  html { background: #17181c; color: #e6e6ea; }
  a { color: #8ab4f8; }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: 0.9em; }
pre { overflow: auto; padding: 0.7rem; border: 1px solid #8886; border-radius: 6px; }
details { border: 1px solid #8886; border-radius: 6px; margin: 0.5rem 0; padding: 0.5rem 0.8rem; }
summary { cursor: pointer; }
.method { display: inline-block; min-width: 3.2rem; font-weight: 700; }
table { border-collapse: collapse; } td, th { text-align: left; padding: 0.15rem 0.8rem 0.15rem 0; }
"""

_STYLE_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()
DOCS_HEADERS = {
    # The one style sheet of the page, named by its digest; nothing else is loaded or run.
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def render_docs(document: dict[str, Any]) -> str:
    """Return the page for an OpenAPI document. Every text is escaped."""
    groups: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            groups.setdefault(operation["tags"][0], []).append(_operation(path, method, operation))
    sections = [
        f'<h2 id="{escape(tag)}">{escape(tag)}</h2>{"".join(parts)}'
        for tag, parts in groups.items()
    ]
    links = " · ".join(f'<a href="#{escape(tag)}">{escape(tag)}</a>' for tag in (*groups, "types"))
    schemas = [
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"<p>{escape(schema.get('description', ''))}</p>{_json(schema)}</details>"
        for name, schema in sorted(document["components"]["schemas"].items())
    ]
    title, info = escape(document["info"]["title"]), escape(document["info"]["description"])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{title}</h1><p>{info} The same for programs: "
        '<a href="/openapi.json">/openapi.json</a>.</p>'
        f'<nav aria-label="Parts"><p>{links}</p></nav>'
        f'{"".join(sections)}<h2 id="types">types</h2>{"".join(schemas)}'
        "</main></body></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    needs = _NEEDS[operation["x-access"]]
    name = f'<span class="method">{escape(method.upper())}</span> <code>{escape(path)}</code>'
    parts = [
        f"<details><summary>{name} · {escape(operation['summary'])}</summary>",
        f"<p>{escape(operation['description'])} For {escape(needs)}.</p>",
    ]
    if parameters := operation.get("parameters"):
        rows = "".join(
            f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{parameter['in']}</td>"
            f"<td><code>{escape(_compact(parameter['schema']))}</code></td></tr>"
            for parameter in parameters
        )
        parts.append(f"<table><tr><th>parameter</th><th>in</th><th>type</th></tr>{rows}</table>")
    if body := operation.get("requestBody"):
        content = body["content"]["application/json"]
        parts.append(f"<p>Body: {_link(content['schema'])}, for example</p>")
        parts.append(_json(content["example"]))
    for code, response in operation["responses"].items():
        schema = next(iter(response["content"].values()))["schema"]
        parts.append(
            f"<div><code>{escape(code)}</code> {escape(response['description'])}: "
            f"{_link(schema)}</div>"
        )
    return "".join(parts) + "</details>"


def _link(schema: dict[str, Any]) -> str:
    reference = schema.get("$ref")
    if reference is None:
        return f"<code>{escape(_compact(schema))}</code>"
    name = reference.rpartition("/")[2]
    return f'<a href="#{escape(name)}"><code>{escape(name)}</code></a>'


def _compact(schema: Any) -> str:
    return msgspec.json.encode(schema).decode()


def _json(value: Any) -> str:
    return (
        f"<pre>{escape(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())}</pre>"
    )
