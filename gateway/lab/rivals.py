"""Retransmission and duplication with real packets: an event is a message that SCTP repeats until it arrives.

    python -m gateway.lab.rivals --engine http://127.0.0.1:9000 --host 10.77.0.1 --port 8081

A peer of the lab offers the channels of a call by `POST /calls` and says on the control channel which group
the call joins, `{"join": "a"}`, and on one of them what to ask the engine, `{"group": "a", "body": {...}}`.
Each event comes over every call of the group: its number in four bytes, most significant first, and its data.
One call is *retransmit*; two and three are *dup2* and *dup3*, whose copies are even repeated each by itself.
For the lab alone: no keys, limits or resuming.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Coroutine
from typing import Any, Protocol

import httpx
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.chat.sse import EventParser

COPIES = {"retransmit": 1, "dup2": 2, "dup3": 3}
"""Calls that a scheme takes, each of which carries every event."""
_CROSS_ORIGIN = {"access-control-allow-origin": "*"}


class Line(Protocol):
    """What a copy is sent on."""

    def send_reliable(self, packet: bytes) -> None: ...

    async def close(self) -> None: ...


class Rivals:
    """Answers offers, and passes an engine's answers on. `close` hangs up."""

    def __init__(self, engine: httpx.AsyncClient) -> None:
        self._engine = engine
        self._lines: list[Line] = []
        self._groups: dict[str, list[Line]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, request: Request) -> Response:
        """An SDP offer in, its answer out."""
        from gateway.transport.settings import RealtimeSettings
        from gateway.transport.webrtc import Peer

        peer = Peer(RealtimeSettings())
        peer.on_text = lambda text: self.take(peer, json.loads(text))
        peer.on_lost = lambda: self._lost(peer)
        self._lines.append(peer)
        sdp = await peer.answer((await request.body()).decode())
        return PlainTextResponse(sdp, headers=_CROSS_ORIGIN)

    def take(self, line: Line, wish: dict[str, Any]) -> None:
        """A control message came. Raises KeyError if it is none, or names a group that nobody joined."""
        if "join" in wish:
            self._groups.setdefault(wish["join"], []).append(line)
        else:
            self._start(self._answer(self._groups[wish["group"]], wish["body"]))

    async def close(self) -> None:
        """Let go of everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *(line.close() for line in self._lines), return_exceptions=True)

    def _lost(self, line: Line) -> None:
        if line in self._lines:
            self._lines.remove(line)
            groups = {name: [other for other in of if other is not line] for name, of in self._groups.items()}
            self._groups = {name: of for name, of in groups.items() if of}
            self._start(line.close())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, lines: list[Line], body: dict[str, Any]) -> None:
        parser, number = EventParser(), 0
        async with self._engine.stream("POST", "/v1/chat/completions", json=body) as answer:
            answer.raise_for_status()
            async for piece in answer.aiter_raw():
                for event in parser.feed(piece):
                    number += 1
                    for line in lines:
                        line.send_reliable(number.to_bytes(4, "big") + event.data)


async def _healthy(request: Request) -> Response:
    return PlainTextResponse("ok")


async def _serve(engine: str, host: str, port: int) -> None:
    async with httpx.AsyncClient(base_url=engine, timeout=None) as client:
        rivals = Rivals(client)
        routes = [Route("/calls", rivals.call, methods=["POST"]), Route("/health", _healthy)]
        app = Starlette(routes=routes)
        try:
            await uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning")).serve()
        finally:
            await rivals.close()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", required=True, help="base URL of the engine")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8081)
    options = parser.parse_args()
    uvloop.run(_serve(options.engine, options.host, options.port))


if __name__ == "__main__":
    main()
