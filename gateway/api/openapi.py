"""The API document: FastAPI's own, and in it the endpoints that the relay serves in front of FastAPI."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.api.relayed import ENDPOINTS, STRING, Endpoint, Schema

ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code", "param"],
            "properties": {
                "message": STRING,
                "type": STRING,
                "code": {"type": ["string", "null"]},
                "param": {"type": ["string", "null"]},
            },
        }
    },
}

_ERRORS = {
    "400": "The request is malformed or the engine refuses it.",
    "401": "No API key, or one that is not known.",
    "404": "No worker serves the model.",
    "413": "The body is too large.",
    "429": "The queue is full; `Retry-After` says when to come back.",
    "502": "The worker broke.",
    "503": "No worker can take the request now.",
    "504": "The worker did not answer in time.",
}

_HEADERS: dict[str, str] = {
    "x-request-id": "Kept if given, made up otherwise; in the answer, the logs and at the worker.",
    "x-session-id": "Requests of one session prefer one worker, with the policies that look at it.",
    "x-sluice-policy": "Another routing policy for this request.",
    "x-sluice-priority": "An integer; a larger one is served sooner where requests wait.",
    "x-sluice-stream": "`resumable` or `detached`, and `; ids`: keep the stream's events to be read again.",
    "x-sluice-timeout-connect": "Seconds for a connection to the worker.",
    "x-sluice-timeout-queue": "Seconds to wait for a free place at a worker.",
    "x-sluice-timeout-first-byte": "Seconds from sending the request until its answer begins.",
    "x-sluice-timeout-silence": "Seconds between two pieces of an answer that has begun.",
}


def describe(app: FastAPI) -> None:
    """Make `app.openapi()` describe the relayed endpoints too; the document is built when first asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    relayed = {endpoint.path: {"post": _operation(endpoint)} for endpoint in ENDPOINTS}
    document["paths"] = relayed | document["paths"]
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Error"] = ERROR
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    document["security"] = [{"bearer": []}, {"x-api-key": []}, {}]
    for operations in document["paths"].values():
        for operation in operations.values():
            # Refused with 400 and our own form, see `errors`.
            if operation["responses"].pop("422", None) is not None:
                operation["responses"]["400"] = _error(_ERRORS["400"])
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    return document


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    answer: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if endpoint.streams:
        answer["text/event-stream"] = {"schema": STRING}
    more = f" Also at {' and '.join(endpoint.also)}." if endpoint.also else ""
    return {
        "tags": ["inference"],
        "summary": endpoint.summary,
        "description": f"Relayed to a worker that serves the model, with every field as sent.{more}",
        "externalDocs": {"url": endpoint.reference},
        "operationId": endpoint.path.strip("/").replace("/", "_"),
        "parameters": [
            {"name": name, "in": "header", "required": False, "schema": STRING, "description": text}
            for name, text in _HEADERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": list(endpoint.required),
                        "properties": endpoint.required | endpoint.optional,
                        "additionalProperties": True,
                    }
                }
            },
        },
        "responses": {
            "200": {"description": "As the engine answers.", "content": answer},
            **{status: _error(text) for status, text in _ERRORS.items()},
        },
    }


def _error(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
