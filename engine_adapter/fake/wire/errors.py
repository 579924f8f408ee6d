"""Errors in vLLM's two forms: OpenAI's for most routes, Anthropic's for `/v1/messages`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson


class ApiError(Exception):
    """A request is answered with an error.

    `kind` is the `type` field: `Bad Request` for a malformed request (found by vLLM's schema check),
    `BadRequestError` for an unacceptable one, `NotFoundError` and so on.
    """

    def __init__(
        self, message: str, *, status: int = 400, kind: str = "BadRequestError", param: str | None = None
    ):
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.param = param
        self.from_schema_check = kind == HTTPStatus.BAD_REQUEST.phrase
        """Found before the endpoint ran, so in OpenAI's form even on `/v1/messages`."""


def malformed(problem: str, location: str, message: str, received: Any = None) -> ApiError:
    """The error of a request that fails vLLM's schema check; `location` is dotted, without `body.`."""
    where = f"body.{location}" if location else "body"
    detail = {"type": problem, "loc": where, "msg": message, "input": _summary(received)}
    return ApiError(f"1 validation error:\n  {detail}", kind=HTTPStatus.BAD_REQUEST.phrase, param=where)


def _summary(received: Any) -> Any:
    """A bounded stand-in for the offending input, as vLLM's message has it."""
    if isinstance(received, str):
        return received if len(received) <= 200 else received[:200] + "...[truncated]"
    if isinstance(received, (list, dict)):
        return f"<{type(received).__name__} of {len(received)} items>"
    return received


def http_error(status: int) -> ApiError:
    """The error of a path or method that is not served, whose message is the status' own phrase."""
    phrase = HTTPStatus(status).phrase
    return ApiError(phrase, status=status, kind=phrase)


def openai_error(error: ApiError) -> bytes:
    """`{"error": {message, type, param, code}}`."""
    return orjson.dumps(
        {"error": {"message": error.message, "type": error.kind, "param": error.param, "code": error.status}}
    )


def anthropic_error(error: ApiError) -> bytes:
    """`{"type": "error", "error": {type, message}}`."""
    if error.from_schema_check:
        return openai_error(error)
    return orjson.dumps({"type": "error", "error": {"type": error.kind, "message": error.message}})


def error_event(path: str, error: ApiError) -> bytes:
    """What a stream of this endpoint says when the engine fails in the middle.

    Chat and completions send the error and `[DONE]`, messages an `error` event and nothing more. vLLM 0.32
    breaks a responses stream off without a word; here it gets OpenAI's `error` event.
    """
    if path == "/v1/messages":
        inner = {"type": "internal_error", "message": error.message}
        return b"event: error\ndata: %b\n\n" % orjson.dumps({"type": "error", "error": inner})
    if path == "/v1/responses":
        data = {"code": str(error.status), "message": error.message, "param": None, "type": "error"}
        return b"event: error\ndata: %b\n\n" % orjson.dumps(data)
    return b"data: %b\n\ndata: [DONE]\n\n" % openai_error(error)


def status_error_kind(status: int) -> str:
    """The `type` vLLM gives an error of this status."""
    names = {
        400: "BadRequestError",
        404: "NotFoundError",
        500: "InternalServerError",
        503: "ServiceUnavailableError",
    }
    return names.get(status) or HTTPStatus(status).phrase
