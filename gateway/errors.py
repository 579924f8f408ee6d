"""Errors as the OpenAI API renders them: the one place that knows the form.

GatewayError
  InvalidRequest        400  the client's request is wrong
  AuthenticationFailed  401  no key, or one that is not known
  PermissionDenied      403  the key may not do this
  NotFound              404  path or model
  TooLarge              413  body over the limit
  RateLimited           429  queue or quota full; says when to come back
  UpstreamFailed        502  the worker broke or answered nonsense
  Unavailable           503  nobody can serve this now
  UpstreamTimeout       504  the worker did not answer in time
"""

from __future__ import annotations

import orjson


class GatewayError(Exception):
    """Ends a request. Subclasses and arguments say with which status, type and code."""

    status = 500
    type = "server_error"
    code: str = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status

    def body(self) -> bytes:
        """The JSON document of OpenAI's error form."""
        return error_body(self.message, self.type, self.code, self.param)

    def anthropic_body(self) -> bytes:
        """The same in Anthropic's form, which has no code; OpenAI's is kept beside its own fields."""
        form = {"type": anthropic_type(self.status), "message": self.message}
        return orjson.dumps({"type": "error", "error": {**form, "param": self.param, "code": self.code}})


class InvalidRequest(GatewayError):
    """The client's request is wrong; the message says where."""

    status, type, code = 400, "invalid_request_error", "invalid_request"


class AuthenticationFailed(GatewayError):
    """No API key, or one that is not known."""

    status, type, code = 401, "invalid_request_error", "invalid_api_key"


class PermissionDenied(GatewayError):
    """The key may not do this."""

    status, type, code = 403, "permission_error", "permission_denied"


class NotFound(GatewayError):
    """There is no such path, model, stream or worker."""

    status, type, code = 404, "invalid_request_error", "not_found"


class TooLarge(GatewayError):
    """The body is over the limit."""

    status, type, code = 413, "invalid_request_error", "request_too_large"


class RateLimited(GatewayError):
    """A queue or quota is full; `retry_after` says when to come back."""

    status, type, code = 429, "rate_limit_error", "queue_full"


class UpstreamFailed(GatewayError):
    """The worker broke the connection, or answered nonsense."""

    status, type, code = 502, "server_error", "worker_failed"


class Unavailable(GatewayError):
    """Nobody can serve this now."""

    status, type, code = 503, "server_error", "no_worker"


class UpstreamTimeout(GatewayError):
    """The worker did not answer in time."""

    status, type, code = 504, "server_error", "worker_timeout"


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def anthropic_type(status: int) -> str:
    """What Anthropic's API calls an error of this status."""
    return _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


def error_body(message: str, type_: str, code: str | None, param: str | None = None) -> bytes:
    """OpenAI's error form as JSON."""
    return orjson.dumps({"error": {"message": message, "type": type_, "param": param, "code": code}})
