"""Reading a stream from a number on, wherever it lives."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.errors import GatewayError, InvalidRequest
from gateway.transport.counts import Path
from gateway.transport.stream import Status, Stream
from gateway.transport.streams import Streams
from gateway.transport.tap import truncated
from gateway.transport.token_log import Truncated


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

    async def next(self, seconds: float) -> list[bytes]:
        """The events above `after`, as soon as there are any.

        Empty if the stream has ended with `after`, or after so many seconds. Raises GatewayError
        (`stream_truncated`, `stream_lost`) if they cannot be had any more.
        """

    def delivered(self, before: int, upto: int, sent: int = -1) -> None:
        """Events `before + 1 .. upto` reached whoever reads; `sent` bytes, by default their own."""

    async def close(self) -> None: ...


class LocalReader:
    """Of a stream of this process."""

    def __init__(self, streams: Streams, stream: Stream, after: int, path: Path) -> None:
        self.stream_id = stream.id
        self.family = stream.family
        self.after = after
        self._streams = streams
        self._stream = stream
        self._path: Path = path
        self._news = asyncio.Event()
        stream.listeners[self._news.set] = None
        streams.reader_came(stream, path, after)
        self._open = True

    @property
    def status(self) -> Status:
        return self._stream.status

    @property
    def at_end(self) -> bool:
        return self.after >= self._stream.log.last

    async def next(self, seconds: float) -> list[bytes]:
        stream = self._stream
        if stream.log.last <= self.after and not stream.ended:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), seconds)
            except TimeoutError:
                return []
        try:
            events = stream.log.after(self.after)
        except Truncated as gone:
            self._streams.counts.truncated[self._path] += 1
            raise truncated(gone.first) from None
        self.after += len(events)
        return events

    def delivered(self, before: int, upto: int, sent: int = -1) -> None:
        self._streams.delivered(self._stream, self._path, before, upto, sent)

    async def close(self) -> None:
        if self._open:
            self._open = False
            del self._stream.listeners[self._news.set]
            self._streams.reader_left(self._stream)


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
