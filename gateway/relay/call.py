"""From a request as it came over the wire to a call that may be routed: who asks, for what, how long.

Everything that can be refused without a worker is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import msgspec

from engine_adapter.cache_salt import EXACT
from gateway.access.keys import POOL, Key
from gateway.errors import AuthenticationFailed, InvalidRequest, PermissionDenied
from gateway.relay import extras
from gateway.relay.envelope import Envelope
from gateway.relay.extras import LogOptions
from gateway.relay.isolation import salt_for
from gateway.relay.request import parse, with_model, with_priority, with_salt, without_extras
from gateway.relay.settings import RelaySettings, Timeouts
from gateway.routing.assignment import RouteRequest


class Keys(Protocol):
    """What the data plane asks of a key ring."""

    version: int
    """Changes whenever the keys do."""

    def check(self, authorization: bytes | None, x_api_key: bytes | None = None) -> Key | None: ...


class Call(msgspec.Struct):
    """One admitted inference request."""

    request_id: bytes
    envelope: Envelope
    body: bytes | bytearray
    model: str
    stream: bool
    route: RouteRequest
    priority: int
    timeouts: Timeouts
    answer_headers: bytes
    """Header lines that every answer to this call carries."""
    log: LogOptions | None = None
    """Keep the answer's events, where it is a stream."""
    sent_traceparent: str | None = None
    """As the last worker got it, where requests are traced."""


class Admitter:
    """Checks calls against keys, aliases and settings. Raises GatewayErrors that a client understands."""

    def __init__(self, settings: RelaySettings, keys: Keys | None, default_model: DefaultModel) -> None:
        self._settings = settings
        self.keys = keys
        """Asked for every key; None: nobody needs one."""
        self._default_model = default_model

    def authenticate(self, fields: Mapping[bytes, bytes]) -> Key | None:
        """The caller's key, or None where none are asked for. Raises AuthenticationFailed."""
        if self.keys is None:
            return None
        authorization, x_api_key = fields.get(b"authorization"), fields.get(b"x-api-key")
        key = self.keys.check(authorization, x_api_key)
        if key is not None:
            return key
        if authorization is None and x_api_key is None:
            raise AuthenticationFailed(
                "No API key provided. Send it as `Authorization: Bearer YOUR_KEY`.", code="missing_api_key"
            )
        raise AuthenticationFailed("Incorrect API key provided, or the key was revoked.")

    def admit(
        self, envelope: Envelope, request_id: bytes, body: bytes | bytearray, answer_headers: bytes
    ) -> Call:
        """The call that envelope and body make."""
        request = parse(body)
        settings = self._settings
        key = envelope.key
        model = request.model or self._the_only_one(request.model)
        if key is not None and key.models is not None and not key.may_use(model):
            raise PermissionDenied(f"This API key may not use the model '{model}'.", code="model_not_allowed")
        if model in settings.aliases:
            model = settings.aliases[model]
            body = with_model(body, model)
        wishes = envelope.wishes
        log = wishes.log
        quality: str = EXACT
        if request.extras is not None:
            body = without_extras(body)
            asked = extras.from_body(request.extras)
            log, quality = log or asked.log, asked.kv_quality
        if request.salt or quality != EXACT or (key is not None and key.tenant != POOL):
            counts_only = envelope.url.startswith(b"/v1/messages/count_tokens")
            salt = salt_for(key, envelope.family, quality, request.salt, counts_only=counts_only)
            if salt is not None:
                body = with_salt(body, salt, replaces=bool(request.salt))
                request.head = salt + b"\0" + request.head
        priority = wishes.priority
        if priority is None:
            priority = request.priority or settings.admission.default_priority
        if key is not None:
            highest = key.max_priority
            if request.priority > highest:
                body = with_priority(body, highest)
            if priority > highest:
                priority = highest
        timeouts = settings.timeouts
        if settings.model_timeouts:
            timeouts = settings.model_timeouts.get(model, timeouts)
        if wishes.timeouts:
            timeouts = replace(timeouts, **wishes.timeouts)
        stream = request.stream
        return Call(
            request_id,
            envelope,
            body,
            model,
            stream,
            RouteRequest(
                model,
                request.head,
                request.prompt,
                wishes.session,
                wishes.policy,
                request.max_tokens,
                stream,
            ),
            priority,
            timeouts,
            answer_headers,
            log if stream else None,
        )

    def _the_only_one(self, named: str | None) -> str:
        """The model of a request that names none. Raises InvalidRequest if there are several."""
        model = self._default_model() if named is None else named
        if model is None:
            raise InvalidRequest(
                "You must provide a 'model'; GET /v1/models lists what is served.",
                code="missing_model",
                param="model",
            )
        return model


class DefaultModel(Protocol):
    def __call__(self) -> str | None:
        """The one model that is served, if it is only one."""
