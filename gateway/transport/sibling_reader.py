"""Reads a stream of another process of this gateway, for a call that lives here."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import httpx
import msgspec

from gateway.errors import GatewayError, Unavailable
from gateway.relay.sse import EventSplitter, EventTooLong, has_error, split_events
from gateway.transport.counts import Path
from gateway.transport.reader import BATCH, StreamLost
from gateway.transport.stream import Status
from gateway.transport.streams import not_found

if TYPE_CHECKING:
    from gateway.transport.library import Library

_NUMBERED = re.compile(rb"(?::[^\n]*\n)*id: (\d{1,12})\n")
_EVENT_BYTES = 4 * 1024 * 1024
_AHEAD = 4 * BATCH
"""Events that are read before somebody takes them."""


class _Error(msgspec.Struct):
    message: str
    code: str | None = None
    type: str | None = None
    param: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _Error


class SiblingReader:
    """A `Reader` over the sibling's GET of the stream, which keeps the count of readers."""

    def __init__(
        self,
        library: Library,
        stream_id: str,
        after: int,
        path: Path,
        answer: httpx.Response,
        stack: AsyncExitStack,
    ) -> None:
        self.stream_id = stream_id
        self.family = "chat"
        self.after = after
        self._counts = library.streams.counts
        self._path: Path = path
        self._stack = stack
        self._status: Status = "running"
        self._waiting: deque[bytes] = deque()
        self._room = asyncio.Event()
        self._lost: StreamLost | None = None
        self._listener: Callable[[], None] | None = None
        self._reading = asyncio.ensure_future(self._read(answer))

    @classmethod
    async def open(
        cls, library: Library, number: int, stream_id: str, after: int, path: Path, headers: Mapping[str, str]
    ) -> SiblingReader:
        """Ask process `number`. Raises GatewayError as the sibling answered."""
        stack = AsyncExitStack()
        target = f"/v1/streams/{stream_id}?starting_after={after}"
        try:
            answer = await stack.enter_async_context(library.siblings.ask(number, "GET", target, headers))
            if answer.status_code == 200:
                return cls(library, stream_id, after, path, answer, stack)
            body = await answer.aread()
        except httpx.HTTPError as error:
            await stack.aclose()
            raise Unavailable("The process that runs the stream does not answer.", retry_after=1) from error
        await stack.aclose()
        raise _as_error(stream_id, answer.status_code, body)

    @property
    def status(self) -> Status:
        return self._status

    @property
    def at_end(self) -> bool:
        return not self._waiting and self._lost is None

    def take(self) -> list[bytes]:
        if self._lost is not None and not self._waiting:
            raise self._lost
        events = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        self.after += len(events)
        self._room.set()
        return events

    def listen(self, listener: Callable[[], None]) -> None:
        self._listener = listener

    def delivered(self, before: int, upto: int, sent: int = -1) -> None:
        self._counts.events[self._path] += upto - before
        self._counts.bytes[self._path] += max(sent, 0)

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._stack.aclose()

    async def _read(self, answer: httpx.Response) -> None:
        splitter = EventSplitter(_EVENT_BYTES)
        last = b""
        try:
            async for piece in answer.aiter_raw():
                for block in split_events(splitter.feed(piece)):
                    if (found := _NUMBERED.match(block)) is not None:
                        last = block[found.end() :]
                        self._waiting.append(last)
                self._tell()
                while len(self._waiting) > _AHEAD:
                    self._room.clear()
                    await self._room.wait()
            self._status = "failed" if has_error(last) else "completed"
        except (httpx.HTTPError, EventTooLong):
            self._status = "failed"
            self._lost = StreamLost("The gateway process that ran the stream does not answer any more.")
        self._tell()

    def _tell(self) -> None:
        if self._listener is not None:
            self._listener()


def _as_error(stream_id: str, status: int, body: bytes) -> GatewayError:
    try:
        said = msgspec.json.decode(body, type=_ErrorBody).error
    except msgspec.DecodeError:
        return not_found(stream_id)
    error = GatewayError(said.message, code=said.code, param=said.param, status=status)
    error.type = said.type or error.type
    return error
