"""The answer to a GET of a stream: its events with their numbers, kept alive by comments."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.errors import GatewayError
from gateway.relay.sse import PING, error_event
from gateway.transport.reader import Arrivals, Reader

HEADERS = {
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


class FollowResponse(Response):
    """Ends with the stream, or when the client leaves: then the stream has a reader less."""

    media_type = "text/event-stream"

    def __init__(self, reader: Reader, ping_seconds: float, stalled_seconds: float) -> None:
        self.status_code = 200
        self.background = None
        self._reader = reader
        self._ping_seconds = ping_seconds or 3600.0
        self._stalled_seconds = stalled_seconds or None
        self.init_headers(HEADERS | {"x-sluice-stream-id": reader.stream_id})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_disconnected(receive))
        following = asyncio.ensure_future(self._follow(send))
        try:
            await asyncio.wait((gone, following), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (gone, following):
                task.cancel()
            await asyncio.gather(gone, following, return_exceptions=True)
            await self._reader.close()
        if not following.cancelled():
            with contextlib.suppress(TimeoutError):  # the client takes nothing: the server closes on it
                following.result()

    async def _follow(self, send: Send) -> None:
        reader = self._reader
        arrivals = Arrivals(reader)
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        while True:
            before = reader.after
            try:
                events = await arrivals.next(self._ping_seconds)
            except GatewayError as error:
                await self._write(send, error_event(reader.family, error, b""))
                break
            if events:
                lines = [b"id: %d\n%b" % (n, event) for n, event in enumerate(events, before + 1)]
                await self._write(send, b"".join(lines))
                reader.delivered(before, reader.after)
            elif reader.status != "running":
                break
            else:
                await self._write(send, PING)
        await send({"type": "http.response.body", "body": b""})

    async def _write(self, send: Send, data: bytes) -> None:
        async with asyncio.timeout(self._stalled_seconds):
            await send({"type": "http.response.body", "body": data, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    with contextlib.suppress(RuntimeError):
        while (await receive())["type"] != "http.disconnect":
            pass
