"""GET /docs: the OpenAPI document as one page, without scripts and without other hosts."""

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Any

import msgspec

__all__ = ["DOCS_HEADERS", "render_docs"]

_STYLE = """
:root { color-scheme: light dark; }
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
    sections = [f"<h2>{escape(tag)}</h2>{''.join(parts)}" for tag, parts in groups.items()]
    schemas = [
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"<p>{escape(schema.get('description', ''))}</p>{_json(schema)}</details>"
        for name, schema in sorted(document["components"]["schemas"].items())
    ]
    title, info = escape(document["info"]["title"]), escape(document["info"]["description"])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{title}</h1><p>{info} The same for programs: "
        '<a href="/openapi.json">/openapi.json</a>.</p>'
        f"{''.join(sections)}<h2>types</h2>{''.join(schemas)}</body></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    needs = "the master key" if operation["security"] else "no key"
    name = f'<span class="method">{escape(method.upper())}</span> <code>{escape(path)}</code>'
    parts = [
        f"<details><summary>{name} · {escape(operation['summary'])}</summary>",
        f"<p>{escape(operation['description'])} Needs {needs}.</p>",
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
