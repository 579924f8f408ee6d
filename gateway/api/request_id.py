"""Gives every request of the control plane an id, in its answer and on every log line about it."""

from __future__ import annotations

import re
from os import urandom

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_USABLE = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")


class RequestId:
    """ASGI middleware; a usable `x-request-id` of the client is kept."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given if _USABLE.fullmatch(given) else urandom(12).hex().encode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id.decode()):
            await self._app(scope, receive, send_with_id)
