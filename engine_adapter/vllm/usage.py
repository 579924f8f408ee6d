"""An ASGI middleware for vLLM's server (`--middleware`): answers say where their prompt's KV came from.

Wherever an answer has a usage object, it gets a member

    "sluice": {"kv": {"engine": 0, "memory": 3072, "file": 0, "computed": 44}}

in prompt tokens; an answer that is not streamed has the same in a header, `x-sluice-kv: memory=3072,
computed=44`. Everything else passes byte for byte. An answer whose sources are not known passes as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from engine_adapter.vllm.sources import BOARD, SourceBoard, Sources

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PATHS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"})
_USAGE = b'"usage":{"'
"""A quote or a brace inside a JSON string is escaped or no key's, so this is a usage object with members."""
_ID = re.compile(rb'"id":"((?:chatcmpl|cmpl|resp|msg)[-_][^"\\]{1,256})"')


class KvUsage:
    """Written into the server's chain by vLLM, with the application as its one argument."""

    def __init__(self, app: App, board: SourceBoard = BOARD) -> None:
        self._app = app
        self._board = board

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in PATHS:
            await self._app(scope, receive, _Answer(send, self._board).send)
        else:
            await self._app(scope, receive, send)


class _Answer:
    """One answer on its way out."""

    def __init__(self, send: Send, board: SourceBoard) -> None:
        self._send = send
        self._board = board
        self._head: Message | None = None
        """Held back until the body is there: a document's, whose length may change."""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if _is_document(message):
                self._head = message
                return
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            whole = not message.get("more_body", False)
            head, self._head = self._head, None
            if _USAGE in body and (head is None or whole):
                sources = self._sources(body)
                if sources is not None:
                    body = _with_sources(body, sources)
                    message = {**message, "body": body}
                    if head is not None:
                        head = _with_header(head, len(body), sources)
            if head is not None:
                await self._send(head)
        await self._send(message)

    def _sources(self, body: bytes) -> Sources | None:
        for found in _ID.finditer(body):
            sources = self._board.of(found[1].decode())
            if sources is not None:
                return sources
        return None


def _is_document(head: Message) -> bool:
    types = [value for name, value in head.get("headers", ()) if name.lower() == b"content-type"]
    return bool(types) and types[0].startswith(b"application/json")


def _with_sources(body: bytes, sources: Sources) -> bytes:
    member = b'"usage":{"sluice":%b,"' % json.dumps({"kv": sources}, separators=(",", ":")).encode()
    return body.replace(_USAGE, member)


def _with_header(head: Message, length: int, sources: Sources) -> Message:
    headers = [(name, value) for name, value in head["headers"] if name.lower() != b"content-length"]
    said = ", ".join(f"{source}={tokens}" for source, tokens in sources.items() if tokens)
    headers += [(b"content-length", b"%d" % length), (b"x-sluice-kv", said.encode())]
    return {**head, "headers": headers}
