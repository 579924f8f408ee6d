"""From a request as it came over the wire to a call that may be routed: who asks, for what, how long.

Everything that can be refused without a worker is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import msgspec

from engine_adapter.cache_salt import EXACT
from gateway.access.keys import Key
from gateway.errors import AuthenticationFailed, InvalidRequest, PermissionDenied
from gateway.relay import extras
from gateway.relay.extras import LogOptions
from gateway.relay.isolation import salt_for
from gateway.relay.request import parse, with_model, with_priority, with_salt, without_extras
from gateway.relay.settings import RelaySettings, Timeouts
from gateway.routing.assignment import RouteRequest

_TIMEOUT_HEADERS = {
    b"x-sluice-timeout-connect": "connect",
    b"x-sluice-timeout-queue": "queue",
    b"x-sluice-timeout-first-byte": "first_byte",
    b"x-sluice-timeout-silence": "silence",
}
_WISH_HEADERS = frozenset(
    (
        *_TIMEOUT_HEADERS,
        b"x-session-id",
        b"x-sluice-session",
        b"x-sluice-policy",
        b"x-sluice-priority",
        extras.STREAM_HEADER,
        b"traceparent",
    )
)
_LONGEST_TIMEOUT = 24 * 3600.0


class Keys(Protocol):
    """What the data plane asks of a key ring."""

    version: int
    """Changes whenever the keys do."""

    def check(self, authorization: bytes | None, x_api_key: bytes | None = None) -> Key | None: ...


class Call(msgspec.Struct):
    """One admitted inference request."""

    request_id: bytes
    url: bytes
    """Path and query as the client sent them."""
    family: str
    sent_on: bytes
    """The client's header lines that a worker is sent (`fields.sent_on_lines`)."""
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
    sent_traceparent: str | None = None
    """As the last worker got it, where requests are traced."""
    log: LogOptions | None = None
    """Keep the answer's events, where it is a stream."""


class Admitter:
    """Checks calls against keys, aliases and settings. Raises GatewayErrors that a client understands."""

    def __init__(self, settings: RelaySettings, keys: Keys | None, default_model: DefaultModel) -> None:
        self._settings = settings
        self._keys = keys
        self._default_model = default_model

    @property
    def keys_version(self) -> int:
        """Changes whenever a key may have been added or revoked."""
        return 0 if self._keys is None else self._keys.version

    def authenticate(self, fields: Mapping[bytes, bytes]) -> Key | None:
        """The caller's key, or None where none are asked for. Raises AuthenticationFailed."""
        if self._keys is None:
            return None
        authorization, x_api_key = fields.get(b"authorization"), fields.get(b"x-api-key")
        key = self._keys.check(authorization, x_api_key)
        if key is not None:
            return key
        if authorization is None and x_api_key is None:
            raise AuthenticationFailed(
                "No API key provided. Send it as `Authorization: Bearer YOUR_KEY`.", code="missing_api_key"
            )
        raise AuthenticationFailed("Incorrect API key provided, or the key was revoked.")

    def admit(
        self,
        key: Key | None,
        request_id: bytes,
        url: bytes,
        family: str,
        sent_on: bytes,
        fields: Mapping[bytes, bytes],
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
        log: LogOptions | None = None
        quality: str = EXACT
        if request.extras is not None:
            body = without_extras(body)
            asked = extras.from_body(request.extras)
            log, quality = asked.log, asked.kv_quality
        counts_only = url.startswith(b"/v1/messages/count_tokens")
        salt = salt_for(key, family, quality, request.salt, counts_only=counts_only)
        if salt is not None:
            body = with_salt(body, salt, replaces=bool(request.salt))
            request.head = salt + b"\0" + request.head
        if key is not None and request.priority > key.max_priority:
            body = with_priority(body, key.max_priority)
        timeouts = settings.timeouts
        if settings.model_timeouts:
            timeouts = settings.model_timeouts.get(model, timeouts)
        wishes = _Wishes(timeouts, request.priority or settings.admission.default_priority)
        if not _WISH_HEADERS.isdisjoint(fields):
            wishes.read(fields)
        priority = wishes.priority
        if key is not None and priority > key.max_priority:
            priority = key.max_priority
        return Call(
            request_id,
            url,
            family,
            sent_on,
            body,
            model,
            request.stream,
            request.route(model, wishes.session, wishes.policy),
            priority,
            wishes.timeouts,
            key.tenant if key is not None else "",
            answer_headers,
            wishes.traceparent,
            log=(wishes.log or log) if request.stream else None,
        )


class _Wishes(msgspec.Struct, gc=False):
    """What a client asks for by header fields."""

    timeouts: Timeouts
    priority: int
    session: str | None = None
    policy: str | None = None
    traceparent: str | None = None
    log: LogOptions | None = None

    def read(self, fields: Mapping[bytes, bytes]) -> None:
        for name in sorted(_WISH_HEADERS & fields.keys()):  # our own session header wins over the common one
            value = fields[name]
            if name in _TIMEOUT_HEADERS:
                self.timeouts = replace(self.timeouts, **{_TIMEOUT_HEADERS[name]: _seconds(name, value)})
            elif name == b"x-sluice-priority":
                self.priority = _integer(name, value)
            elif name == extras.STREAM_HEADER:
                self.log = extras.from_header(value)
            else:
                text = value.decode("latin-1")
                if name == b"x-sluice-policy":
                    self.policy = text
                elif name == b"traceparent":
                    self.traceparent = text
                else:
                    self.session = text


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
    if len(value) > 12 or not value.removeprefix(b"-").isdigit():
        raise InvalidRequest(
            f"The header {name.decode()} must be an integer, not {value[:40].decode('latin-1')!r}.",
            code="invalid_header",
            param=name.decode(),
        )
    return int(value)
