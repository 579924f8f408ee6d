"""Reads a stream of another process of this gateway, for a call that lives here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import httpx
import msgspec

from gateway.errors import GatewayError, Unavailable
from gateway.relay.sse import EventSplitter, has_error, split_events
from gateway.transport.counts import Path
from gateway.transport.reader import StreamLost
from gateway.transport.stream import Status
from gateway.transport.streams import not_found

if TYPE_CHECKING:
    from gateway.transport.library import Library

_NUMBERED = re.compile(rb"(?::[^\n]*\n)*id: (\d{1,12})\n")
_EVENT_BYTES = 4 * 1024 * 1024


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
        self.status: Status = "running"
        self._counts = library.streams.counts
        self._path: Path = path
        self._answer = answer
        self._stack = stack
        self._pieces = answer.aiter_raw()
        self._splitter = EventSplitter(_EVENT_BYTES)
        self._reading: asyncio.Future[bytes] | None = None
        self._tail = b""

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
    def at_end(self) -> bool:
        return self.status != "running"

    async def next(self, seconds: float) -> list[bytes]:
        while True:
            if self._reading is None:
                self._reading = asyncio.ensure_future(anext(self._pieces, b""))
            done, _ = await asyncio.wait((self._reading,), timeout=seconds)
            if not done:
                return []
            reading, self._reading = self._reading, None
            try:
                piece = reading.result()
            except httpx.HTTPError as error:
                self.status = "failed"
                raise StreamLost("The gateway process that ran the stream has died.") from error
            if not piece:
                if self.status == "running":
                    self.status = "failed" if has_error(self._tail) else "completed"
                return []
            if events := self._take(piece):
                return events

    def delivered(self, before: int, upto: int, sent: int = -1) -> None:
        self._counts.events[self._path] += upto - before
        self._counts.bytes[self._path] += max(sent, 0)

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._stack.aclose()

    def _take(self, piece: bytes) -> list[bytes]:
        events = []
        for block in split_events(self._splitter.feed(piece)):
            found = _NUMBERED.match(block)
            if found is not None:
                self.after = int(found[1])
                events.append(block[found.end() :])
                self._tail = events[-1]
        return events


def _as_error(stream_id: str, status: int, body: bytes) -> GatewayError:
    try:
        said = msgspec.json.decode(body, type=_ErrorBody).error
    except msgspec.DecodeError:
        return not_found(stream_id)
    error = GatewayError(said.message, code=said.code, param=said.param, status=status)
    error.type = said.type or error.type
    return error
