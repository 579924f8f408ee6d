"""`/docs`: the API document for people, as one page without a script and without anything from elsewhere."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import HTMLResponse, Response

_ADDRESS = "http://HOST:PORT"
"""Replaced by what the visitor's browser calls us, so that the examples work when pasted."""

_ORDER = ("inference", "models", "health", "admin")

_CODE = re.compile(r"`([^`]+)`")

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 6rem; }
h2 { margin-top: 2.5rem; text-transform: capitalize; }
details { border-top: 1px solid color-mix(in srgb, currentColor 20%, transparent); padding: .6rem 0; }
summary { cursor: pointer; }
summary b { display: inline-block; width: 4.5rem; font-family: ui-monospace, monospace; }
code, pre { font-family: ui-monospace, monospace; font-size: .875rem; }
pre { overflow-x: auto; padding: .75rem; background: color-mix(in srgb, currentColor 8%, transparent); }
table { border-collapse: collapse; margin: .5rem 0; }
td, th { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0; }
"""

_HEADERS = {
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'",
    "cache-control": "no-cache",
    "x-content-type-options": "nosniff",
}


def routes(app: FastAPI) -> APIRouter:
    """`/docs`, a page made from the OpenAPI document of `app`."""
    router = APIRouter(include_in_schema=False)
    page: list[str] = []

    @router.get("/docs")
    async def docs(request: Request) -> Response:
        if not page:
            # Building the document takes longer than a stream may wait.
            page.append(await asyncio.to_thread(lambda: render(app.openapi())))
        address = escape(f"{request.url.scheme}://{request.url.netloc}")
        return HTMLResponse(page[0].replace(_ADDRESS, address), headers=_HEADERS)

    return router


def render(document: dict[str, Any]) -> str:
    """The page for an OpenAPI document."""
    sections: dict[str, list[str]] = {tag: [] for tag in _ORDER}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["other"])[0]
            sections.setdefault(tag, []).append(_operation(document, path, method.upper(), operation))
    body = "".join(f"<h2>{escape(tag)}</h2>{''.join(parts)}" for tag, parts in sections.items() if parts)
    info = document["info"]
    title = f"{escape(info['title'])} API"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{title} <small>{escape(info['version'])}</small></h1>"
        f"<p>{escape(info.get('description', ''))}</p>"
        f'<p>For programs: <a href="/openapi.json">openapi.json</a></p>{body}</body></html>'
    )


def _operation(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [f"<p>{_text(operation.get('description', ''))}</p>"]
    if "externalDocs" in operation:
        reference = escape(operation["externalDocs"]["url"])
        parts.append(f'<p>All of it: <a href="{reference}" rel="noreferrer">{reference}</a></p>')
    parameters = operation.get("parameters", [])
    if parameters:
        parts.append(
            _table(
                "Parameter",
                ((p["name"], _type(p.get("schema", {})), p.get("description", p["in"])) for p in parameters),
            )
        )
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is not None:
        schema = _resolved(document, content["schema"])
        required = schema.get("required", [])
        parts.append(
            _table(
                "Field",
                (
                    (name + ("" if name in required else "?"), _type(field), field.get("description", ""))
                    for name, field in schema.get("properties", {}).items()
                ),
            )
        )
        parts.append(_curl(path, method, schema))
    answers = ((code, "", answer["description"]) for code, answer in operation["responses"].items())
    parts.append(_table("Status", answers))
    summary = f"<b>{method}</b> <code>{escape(path)}</code> &ensp;{escape(operation.get('summary', ''))}"
    return f"<details><summary>{summary}</summary>{''.join(parts)}</details>"


def _table(head: str, rows: Any) -> str:
    cells = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(kind)}</td><td>{_text(text)}</td></tr>"
        for name, kind, text in rows
    )
    return f"<table><tr><th>{head}</th><th></th><th></th></tr>{cells}</table>" if cells else ""


def _text(text: str) -> str:
    """Of Markdown, code is all that our descriptions use."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _curl(path: str, method: str, schema: dict[str, Any]) -> str:
    body = {
        name: _example(field)
        for name, field in schema["properties"].items()
        if name in schema.get("required", ()) or field.get("examples")
    }
    text = (
        f"curl -X {method} {_ADDRESS}{path} -H 'content-type: application/json' \\\n  -d '{json.dumps(body)}'"
    )
    return f"<pre>{escape(text)}</pre>"


def _example(schema: dict[str, Any]) -> Any:
    if "example" in schema:
        return schema["example"]
    if schema.get("examples"):
        return schema["examples"][0]
    if schema.get("type") == "array":
        return [_example(schema["items"])]
    return {"string": "text", "integer": 64, "number": 0.5, "boolean": True}.get(schema.get("type", ""), {})


def _type(schema: dict[str, Any]) -> str:
    kinds = schema.get("oneOf") or schema.get("anyOf")
    if kinds:
        return " or ".join(_type(kind) for kind in kinds)
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {})) or 'anything'}"
    return str(schema.get("type", ""))


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference: str = schema.get("$ref", "")
    if not reference:
        return schema
    found: dict[str, Any] = document["components"]["schemas"][reference.rpartition("/")[2]]
    return found
