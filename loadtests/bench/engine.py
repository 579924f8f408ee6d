"""An engine that costs next to nothing, for measuring what is in front of it: canned answers on a clock.

Every stream of a process ticks on one timer. `python -m loadtests.bench.engine --port 9000 --itl-ms 20`
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re

import uvloop

from loadtests.bench.client import MODEL


def _event(document: object) -> bytes:
    data = b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def _chunk(delta: dict[str, str], finish: str | None) -> dict[str, object]:
    return {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": MODEL,
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }


def _json(document: object) -> bytes:
    body = json.dumps(document).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


TOKENS = [_event(_chunk({"content": f" tok{i}"}, None)) for i in range(1024)]
DONE = b"data: [DONE]\n\n"
LAST = _event(_chunk({}, "stop")) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(DONE), DONE)
STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
UNARY = _json(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": " tok" * 64},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 32, "completion_tokens": 64, "total_tokens": 96},
    }
)
MODELS = _json(
    {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "max_model_len": 32768}]}
)
_STREAMS = re.compile(rb'"stream": ?true')
_MAX_TOKENS = re.compile(rb'"max_tokens": ?(\d+)')
HEALTH = _json({"status": "ok"})


class Engine(asyncio.Protocol):
    """One connection of a canned engine."""

    itl = 0.0

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._received = b""
        self._missing = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._missing:
            # A large body is counted, not kept: only its beginning says what is asked for.
            self._missing -= len(data)
            if self._missing <= 0:
                self._missing = 0
                self._answer(*self._pending)
            return
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        self._received = b""
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        path = head.split(b" ", 2)[1]
        if len(rest) < length:
            self._missing = length - len(rest)
            self._pending = (path, rest)
        else:
            self._answer(path, rest)

    def _answer(self, path: bytes, body: bytes) -> None:
        if path.startswith(b"/v1/models"):
            self.transport.write(MODELS)
        elif not path.startswith(b"/v1/"):
            self.transport.write(HEALTH)
        elif _STREAMS.search(body):
            wanted = _MAX_TOKENS.search(body)
            self.transport.write(STREAM + TOKENS[0])
            self._next(1, int(wanted[1]) if wanted else 16, asyncio.get_running_loop().time())
        else:
            self.transport.write(UNARY)

    def _next(self, index: int, tokens: int, started: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(started + index * self.itl, self._tick, index, tokens, started)

    def _tick(self, index: int, tokens: int, started: float) -> None:
        if index >= tokens:
            self.transport.write(LAST)
        else:
            self.transport.write(TOKENS[index % 1024])
            self._next(index + 1, tokens, started)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Engine, "127.0.0.1", port, backlog=8192)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--itl-ms", type=float, default=0.0)
    a = parser.parse_args()
    Engine.itl = a.itl_ms / 1000
    uvloop.run(_serve(a.port))


if __name__ == "__main__":
    main()
