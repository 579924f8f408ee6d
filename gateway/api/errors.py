"""Every error of the control plane in OpenAI's form, whoever raised it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gateway.api.relayed import PATHS
from gateway.errors import GatewayError, InvalidRequest, NotFound, error_body

log = structlog.get_logger(__name__)


def install(app: FastAPI) -> None:
    """Render whatever `app` raises in OpenAI's form."""
    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(Exception, _unexpected)


def answer(error: GatewayError, headers: Mapping[str, str] | None = None) -> Response:
    """The response for one of our own errors."""
    fields = dict(headers or {})
    if error.retry_after is not None:
        fields["retry-after"] = str(math.ceil(error.retry_after))
    if error.status == 401:
        fields["www-authenticate"] = "Bearer"
    return Response(error.body(), error.status, fields, "application/json")


async def _gateway_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    return answer(error)


async def _http_exception(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself: unknown paths and wrong methods."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404 and request.url.path in PATHS:
        message = f"{request.url.path} takes POST, not {request.method}."
        refusal = InvalidRequest(message, code="method_not_allowed", status=405)
        return answer(refusal, {"allow": "POST"})
    if error.status_code == 404:
        return answer(NotFound(f"There is nothing at {request.method} {request.url.path}. See /docs."))
    if error.status_code == 405:
        return answer(
            InvalidRequest(
                f"{request.url.path} does not take {request.method}.", code="method_not_allowed", status=405
            ),
            error.headers,
        )
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    body = error_body(str(error.detail), kind, None)
    return Response(body, error.status_code, error.headers, "application/json")


async def _invalid_request(request: Request, error: Exception) -> Response:
    """OpenAI answers 400 where FastAPI would say 422, and names one parameter."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        at, why = first["loc"][-1], first["ctx"]["error"]
        return answer(
            InvalidRequest(f"The request body is not valid JSON: {why} (byte {at})", code="invalid_json")
        )
    if first["loc"] == ("body",) and "json" not in request.headers.get("content-type", ""):
        return answer(
            InvalidRequest("The request body must be JSON, sent as content-type: application/json.")
        )
    param = ".".join(str(part) for part in first["loc"][1:]) or None
    message = f"{param}: {first['msg']}" if param else str(first["msg"])
    return answer(InvalidRequest(message, param=param))


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("control plane failed", path=request.url.path, exc_info=error)
    return answer(GatewayError("The gateway failed on this request; its log says why."))
