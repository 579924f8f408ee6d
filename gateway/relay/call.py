"""From a request as it came over the wire to a call that may be routed: who asks, for what, how long.

Everything that can be refused without a worker is refused here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from gateway.access.keys import Key
from gateway.errors import AuthenticationFailed, InvalidRequest, PermissionDenied
from gateway.relay.request import parse, with_model
from gateway.relay.settings import RelaySettings, Timeouts
from gateway.relay.upstream import Headers
from gateway.routing.assignment import RouteRequest

_TIMEOUT_HEADERS = {
    b"x-sluice-timeout-connect": "connect",
    b"x-sluice-timeout-queue": "queue",
    b"x-sluice-timeout-first-byte": "first_byte",
    b"x-sluice-timeout-silence": "silence",
}
_LONGEST_TIMEOUT = 24 * 3600.0


class Keys(Protocol):
    """What the data plane asks of a key ring."""

    def check(self, authorization: bytes | None, x_api_key: bytes | None = None) -> Key | None: ...


@dataclass(slots=True)
class Call:
    """One admitted inference request."""

    request_id: bytes
    url: bytes
    """Path and query as the client sent them."""
    family: str
    headers: Headers
    """The client's header fields, names in lower case."""
    body: bytes | bytearray
    model: str
    stream: bool
    route: RouteRequest
    priority: int
    timeouts: Timeouts
    tenant: str
    answer_headers: bytes
    """Header lines that every answer to this call carries."""
    traceparent: str | None
    """W3C trace context as the client sent it."""


class Admitter:
    """Checks calls against keys, aliases and settings. Raises GatewayErrors that a client understands."""

    def __init__(self, settings: RelaySettings, keys: Keys | None, default_model: DefaultModel) -> None:
        self._settings = settings
        self._keys = keys
        self._default_model = default_model

    def authenticate(self, headers: Headers) -> Key | None:
        """The caller's key, or None where none are asked for. Raises AuthenticationFailed."""
        if self._keys is None:
            return None
        authorization = x_api_key = None
        for name, value in headers:
            if name == b"authorization":
                authorization = value
            elif name == b"x-api-key":
                x_api_key = value
        key = self._keys.check(authorization, x_api_key)
        if key is None:
            if authorization is None and x_api_key is None:
                raise AuthenticationFailed(
                    "No API key provided. Send it as `Authorization: Bearer YOUR_KEY`.",
                    code="missing_api_key",
                )
            raise AuthenticationFailed("Incorrect API key provided, or the key was revoked.")
        return key

    def admit(
        self,
        key: Key | None,
        request_id: bytes,
        url: bytes,
        family: str,
        headers: Headers,
        body: bytes | bytearray,
        answer_headers: bytes,
    ) -> Call:
        request = parse(body)
        settings = self._settings
        model = request.model
        if model is None:
            model = self._default_model()
            if model is None:
                raise InvalidRequest(
                    "You must provide a 'model'; GET /v1/models lists what is served.",
                    code="missing_model",
                    param="model",
                )
        if key is not None and not key.may_use(model):
            raise PermissionDenied(f"This API key may not use the model '{model}'.", code="model_not_allowed")
        if (served := settings.aliases.get(model)) is not None:
            model = served
            body = with_model(body, served)
        session = policy = traceparent = None
        timeouts = (
            settings.model_timeouts.get(model, settings.timeouts)
            if settings.model_timeouts
            else settings.timeouts
        )
        priority = request.priority or settings.admission.default_priority
        for name, value in headers:
            if name == b"traceparent":
                traceparent = value.decode("latin-1")
            elif not name.startswith(b"x-s"):
                continue
            elif name in (b"x-session-id", b"x-sluice-session"):
                session = value.decode("latin-1")
            elif name == b"x-sluice-policy":
                policy = value.decode("latin-1")
            elif name == b"x-sluice-priority":
                priority = _integer(name, value)
            elif name in _TIMEOUT_HEADERS:
                timeouts = replace(timeouts, **{_TIMEOUT_HEADERS[name]: _seconds(name, value)})
        if key is not None and priority > key.max_priority:
            priority = key.max_priority
        return Call(
            request_id,
            url,
            family,
            headers,
            body,
            model,
            request.stream,
            RouteRequest(
                model, request.head, request.prompt, session, policy, request.max_tokens, request.stream
            ),
            priority,
            timeouts,
            key.tenant if key is not None else "",
            answer_headers,
            traceparent,
        )


class DefaultModel(Protocol):
    def __call__(self) -> str | None:
        """The one model that is served, if it is only one."""


def _seconds(name: bytes, value: bytes) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0.0 < seconds <= _LONGEST_TIMEOUT:
        raise InvalidRequest(
            f"The header {name.decode()} must be a number of seconds above 0, "
            f"not {value[:40].decode('latin-1')!r}.",
            code="invalid_header",
            param=name.decode(),
        )
    return seconds


def _integer(name: bytes, value: bytes) -> int:
    try:
        return int(value[:12])
    except ValueError:
        raise InvalidRequest(
            f"The header {name.decode()} must be an integer, not {value[:40].decode('latin-1')!r}.",
            code="invalid_header",
            param=name.decode(),
        ) from None
