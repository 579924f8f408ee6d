"""Reading a stream from a number on, wherever it lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.errors import GatewayError, InvalidRequest
from gateway.transport.counts import Path
from gateway.transport.stream import Status, Stream
from gateway.transport.streams import Streams
from gateway.transport.tap import truncated
from gateway.transport.token_log import Truncated

BATCH = 256
"""Events that are taken at once."""


class Reader(Protocol):
    """Counts as a reader of its stream until it is closed."""

    stream_id: str
    family: str
    after: int
    """Number of the last event that was handed out."""

    @property
    def status(self) -> Status:
        """`running` until the stream has ended; events may be left then."""

    @property
    def at_end(self) -> bool:
        """Was every event handed out that there is so far?"""

    def take(self) -> list[bytes]:
        """The next events above `after` that are there, at most `BATCH`.

        Raises GatewayError (`stream_truncated`, `stream_lost`) if they cannot be had any more.
        """

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever events came, or the end, or an error that `take` will raise."""

    def delivered(self, before: int, upto: int, sent: int = -1) -> None:
        """Events `before + 1 .. upto` reached whoever reads; `sent` bytes, by default their own."""

    async def close(self) -> None: ...


class Arrivals:
    """Awaits what a reader's listener tells; one at a time."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._news = asyncio.Event()
        reader.listen(self._news.set)

    async def next(self, seconds: float) -> list[bytes]:
        """Events as soon as there are any; empty after so many seconds, or if the stream has ended."""
        reader = self._reader
        try:
            async with asyncio.timeout(seconds):
                while reader.at_end and reader.status == "running":
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return []
        return reader.take()


class LocalReader:
    """Of a stream of this process."""

    def __init__(self, streams: Streams, stream: Stream, after: int, path: Path) -> None:
        self.stream_id = stream.id
        self.family = stream.family
        self.after = after
        self._streams = streams
        self._stream = stream
        self._path: Path = path
        self._listener: Callable[[], None] | None = None
        self._open = True
        streams.reader_came(stream, path, after)

    @property
    def status(self) -> Status:
        return self._stream.status

    @property
    def at_end(self) -> bool:
        return self.after >= self._stream.log.last

    def take(self) -> list[bytes]:
        try:
            events = self._stream.log.after(self.after, BATCH)
        except Truncated as gone:
            self._streams.counts.truncated[self._path] += 1
            raise truncated(gone.first) from None
        self.after += len(events)
        return events

    def listen(self, listener: Callable[[], None]) -> None:
        self._unlisten()
        self._listener = listener
        self._stream.listeners[listener] = None

    def delivered(self, before: int, upto: int, sent: int = -1) -> None:
        self._streams.delivered(self._stream, self._path, before, upto, sent)

    async def close(self) -> None:
        if self._open:
            self._open = False
            self._unlisten()
            self._streams.reader_left(self._stream)

    def _unlisten(self) -> None:
        if self._listener is not None:
            del self._stream.listeners[self._listener]
            self._listener = None


def checked_start(after: int, first: int, last: int) -> int:
    """`after`, if reading a stream that has events `first .. last` can begin behind it.

    Raises StreamTruncated or InvalidRequest.
    """
    if after > last:
        raise InvalidRequest(
            f"starting_after is {after}, but the stream's last event so far has number {last}.",
            code="invalid_starting_after",
            param="starting_after",
        )
    if after + 1 < first:
        raise truncated(first)
    return after


def starting_after(query: str | None, last_event_id: str | None) -> int:
    """The number that a request names, 0 if it names none. Raises InvalidRequest."""
    text = query if query is not None else last_event_id
    if not text:
        return 0
    if len(text) > 10 or not text.isascii() or not text.isdigit():
        raise InvalidRequest(
            f"starting_after must be the number of an event, not {text[:40]!r}.",
            code="invalid_starting_after",
            param="starting_after",
        )
    return int(text)


class StreamLost(GatewayError):
    status, type, code = 502, "server_error", "stream_lost"
