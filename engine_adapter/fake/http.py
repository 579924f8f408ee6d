"""The HTTP/1.1 server side: a protocol per connection, an exchange per request.

`Connection` parses with httptools and hands each complete request, one at a time, to a `Handler`.
`Exchange` writes the answer and is also the sink of the request's job in the scheduler.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol, cast

import httptools

from engine_adapter.fake.scheduler import Job
from engine_adapter.fake.stats import Stats
from engine_adapter.fake.wire.generation import Rendering

JSON = b"application/json"
EVENTS = b"text/event-stream; charset=utf-8"
TEXT = b"text/plain; charset=utf-8"

PIPELINE_LIMIT = 16
"""Requests one connection may have waiting; beyond it the connection is not read."""

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


def status_line(status: int) -> bytes:
    """First line of a response."""
    return _STATUS_LINES.get(status) or f"HTTP/1.1 {status} Unknown\r\n".encode()


class _DateHeader:
    """`date` and `server` lines, rendered once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._lines = b""

    def lines(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._lines = f"date: {formatdate(second, usegmt=True)}\r\nserver: uvicorn\r\n".encode()
        return self._lines


_date_header = _DateHeader()


class Handler(Protocol):
    """Who answers requests."""

    stats: Stats

    def connected(self, connection: Connection) -> None:
        """A client connected."""

    def handle(self, exchange: Exchange) -> None:
        """A request is complete; answer it now or later."""

    def left(self, exchange: Exchange) -> None:
        """The client closed before `exchange` was answered."""

    def readable(self, exchange: Exchange, readable: bool) -> None:
        """The client of a stream stopped reading, or reads again."""

    def disconnected(self, connection: Connection) -> None:
        """The connection is closed."""


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "body",
        "chunked",
        "connection",
        "done",
        "headers",
        "job",
        "keep_alive",
        "method",
        "path",
        "query",
        "raw_headers",
        "rendering",
        "started",
    )

    def __init__(self, connection: Connection, method: str, path: str, query: str) -> None:
        self.connection = connection
        self.method = method
        self.path = path
        self.query = query
        self.headers: dict[bytes, bytes] = {}
        """By lower-case name; of headers sent twice the last."""
        self.raw_headers: list[tuple[bytes, bytes]] = []
        """As they came."""
        self.body = b""
        self.keep_alive = True
        self.chunked = True
        """The client speaks HTTP/1.1 and so understands chunked streams."""
        self.job: Job | None = None
        self.rendering: Rendering | None = None
        self.started = False
        """Bytes of the answer were sent."""
        self.done = False

    def header(self, name: bytes) -> str | None:
        """A request header by its lower-case name."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def reply(self, status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b"") -> None:
        """Answer with a whole body; `extra` holds further header lines."""
        head = self._unary_head(status, len(body), content_type, extra)
        self._write(head if self.method == "HEAD" else head + body)
        self.finish()

    def open_stream(self) -> None:
        """Send the headers of an event stream."""
        self._write(self._stream_head())

    def send(self, data: bytes) -> None:
        """Send events."""
        self.connection.handler.stats.events_sent += 1
        self._write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def end(self) -> None:
        """End the stream."""
        if self.chunked:
            self._write(b"0\r\n\r\n")
        else:
            self.keep_alive = False
        self.finish()

    def finish(self) -> None:
        """The answer is complete: take the next request or close."""
        self.done = True
        # The job holds this exchange as its sink: without a cycle both go without the collector.
        self.job = None
        self.connection.finished(self)

    def step(self, job: Job, index: int) -> None:
        """Part of the scheduler's `Sink`."""
        assert self.rendering is not None
        self.send(self.rendering.step(index, job.cached_tokens))

    def complete(self, job: Job) -> None:
        """Part of the scheduler's `Sink`."""
        assert self.rendering is not None
        if job.streaming:
            self.send(self.rendering.closing(job.cached_tokens))
            self.end()
        else:
            self.reply(200, self.rendering.body(job.cached_tokens))

    def _unary_head(self, status: int, length: int, content_type: bytes, extra: bytes) -> bytes:
        return b"%b%bcontent-length: %d\r\n%bcontent-type: %b\r\n%b\r\n" % (
            status_line(status),
            _date_header.lines(),
            length,
            extra,
            content_type,
            b"" if self.keep_alive else b"connection: close\r\n",
        )

    def _stream_head(self) -> bytes:
        return b"%b%bcontent-type: %b\r\n%b%b\r\n" % (
            status_line(200),
            _date_header.lines(),
            EVENTS,
            b"" if self.keep_alive else b"connection: close\r\n",
            b"transfer-encoding: chunked\r\n" if self.chunked else b"",
        )

    def _write(self, data: bytes) -> None:
        self.started = True
        self.connection.write(data)


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, handler: Handler, *, control: bool = False) -> None:
        self.handler = handler
        self.control = control
        """It came in by the control listener: no fault applies."""
        self.transport: asyncio.Transport | None = None
        self.current: Exchange | None = None
        self.idle_since = 0.0
        """Monotonic time since when no request is under way."""
        self._waiting: deque[Exchange] = deque()
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._raw_headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client connected."""
        # Not an isinstance check: uvloop's transports are no subclasses of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self.idle_since = time.monotonic()
        self.handler.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, by whichever side."""
        self.transport = None
        if self.current is not None and not self.current.done:
            self.current.done = True
            self.handler.left(self.current)
            self.current.job = None
        self.current = None
        self._waiting.clear()
        self.handler.disconnected(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse_bytes()
        except httptools.HttpParserError:
            self._refuse_bytes()

    def pause_writing(self) -> None:
        """The client does not read as fast as it is sent to."""
        if self.current is not None:
            self.handler.readable(self.current, False)

    def resume_writing(self) -> None:
        """The client reads again."""
        if self.current is not None:
            self.handler.readable(self.current, True)

    # httptools callbacks

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""
        self._headers = {}
        self._raw_headers = []
        self._parts = []

    def on_url(self, url: bytes) -> None:
        """Part of the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line."""
        self._headers[name.lower()] = value
        self._raw_headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        if self._headers.get(b"expect", b"").lower() == b"100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Part of the body."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        target = self._url.decode("latin-1")
        path, _, query = target.partition("?")
        exchange = Exchange(self, self._parser.get_method().decode("latin-1"), path, query)
        exchange.headers = self._headers
        exchange.raw_headers = self._raw_headers
        exchange.body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        exchange.keep_alive = self._parser.should_keep_alive()
        exchange.chunked = self._parser.get_http_version() != "1.0"
        if self.current is None:
            self._begin(exchange)
        else:
            self._waiting.append(exchange)
            if len(self._waiting) >= PIPELINE_LIMIT and self.transport is not None:
                self.transport.pause_reading()

    # towards the exchange

    def write(self, data: bytes) -> None:
        """Send bytes; nothing happens once the connection is closed."""
        if self.transport is not None:
            self.transport.write(data)

    def finished(self, exchange: Exchange) -> None:
        """`exchange` is answered."""
        self.current = None
        self.idle_since = time.monotonic()
        if not exchange.keep_alive:
            self.close()
        elif self._waiting:
            self._begin(self._waiting.popleft())
            if self.transport is not None and not self.transport.is_reading():
                self.transport.resume_reading()

    def close(self) -> None:
        """Close after what was written is sent (FIN)."""
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """Close at once, throwing away what was not sent."""
        if self.transport is not None:
            self.transport.abort()

    def _begin(self, exchange: Exchange) -> None:
        self.current = exchange
        self.handler.stats.requests_seen += 1
        self.handler.handle(exchange)

    def _refuse_bytes(self) -> None:
        body = b"Invalid HTTP request received."
        self.write(
            status_line(400)
            + b"content-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (TEXT, len(body), body)
        )
        self.close()
