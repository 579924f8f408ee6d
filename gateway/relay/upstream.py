"""One keep-alive connection to a worker: sends a request, reads the answer, tells a receiver.

The answer's head goes through httptools. Its body does not: see `framing`. A stream of server-sent events
reaches the receiver as whole events, chunk-framed and ready to be written to an HTTP/1.1 client; usually
these are the very bytes that were read.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import httptools
import msgspec

from gateway.relay.fields import Headers, passed_lines
from gateway.relay.framing import ChunkedReader, Framing, FramingError, chunk, whole_chunk
from gateway.relay.known_head import HeadPattern, pattern_of
from gateway.relay.sse import EventSplitter, EventTooLong
from gateway.routing.fleet import Worker

HEAD_BYTES = 64 * 1024
_JOIN_BYTES = 64 * 1024
"""Request bodies up to this size are sent in one piece with their head: one system call, a small copy."""


class ResponseHead(msgspec.Struct, frozen=True, gc=False):
    status: int
    framing: Framing
    length: int
    """Of the body, where the framing is by length."""
    events: bool
    """Is it a stream of server-sent events?"""
    keep_alive: bool
    """May the connection carry another request afterwards?"""
    passed: bytes
    """Status line and header lines that a client is shown, without those of framing."""

    def with_length(self, length: int) -> ResponseHead:
        return ResponseHead(self.status, Framing.LENGTH, length, self.events, self.keep_alive, self.passed)


class _KnownAnswer(msgspec.Struct, frozen=True, gc=False):
    """The head of an answer that came in one read."""

    pattern: HeadPattern
    head: ResponseHead


_LENGTH = b"\r\ncontent-length: "
_HEADS: dict[bytes, ResponseHead] = {}
"""Heads seen lately, by their bytes without the digits of the length. Workers answer with few different ones,
even with a date in them."""
_HEADS_KEPT = 128
_DIGITS = 18
"""Longest length that is read without the parser, which knows what is too large."""
_NONSENSE = (FramingError, EventTooLong, httptools.HttpParserError, httptools.HttpParserUpgrade)
"""What reading a worker's bytes may raise."""


class Receiver(Protocol):
    """Whoever the answer is for. After `on_end` or `on_lost` the connection says no more."""

    def on_head(self, head: ResponseHead) -> None: ...

    def on_events(self, framed: bytes) -> None:
        """Whole events, as HTTP/1.1 chunks."""

    def on_last_events(self, framed: bytes) -> None:
        """As `on_events`; `on_end` follows at once."""

    def on_body(self, payload: bytes) -> None:
        """Bytes of a body that is no event stream, without framing."""

    def on_whole(self, payload: bytes) -> None:
        """The whole body of an answer that came in one read; neither `on_body` nor `on_end` follows."""

    def on_unfinished(self, payload: bytes) -> None:
        """Bytes of an event that the end of its stream cut off; `on_end` follows."""

    def on_end(self) -> None: ...

    def on_lost(self, reason: str) -> None:
        """The connection broke or made no sense before the answer's end."""


class _HeadParser:
    """Callbacks of httptools for one response head."""

    __slots__ = ("headers", "keep_alive", "parser")

    def __init__(self) -> None:
        self.headers: Headers = []
        self.keep_alive = False
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        # Asked here: where the body is empty, the parser has forgotten it once the head is read.
        self.keep_alive = self.parser.should_keep_alive()


def read_head(raw: bytes) -> ResponseHead:
    """What a whole response head says. Raises FramingError, httptools.HttpParserError."""
    start = raw.find(_LENGTH) + len(_LENGTH)
    if start < len(_LENGTH):
        return _HEADS.get(raw) or _parse_head(raw, raw)
    stop = raw.find(b"\r", start)
    digits = raw[start:stop]
    shape = raw[:start] + raw[stop:]
    known = _HEADS.get(shape)
    is_plain = digits.isdigit() and digits[:1] != b"0" and len(digits) <= _DIGITS
    if known is None or known.framing is not Framing.LENGTH or not is_plain:
        return _parse_head(raw, shape)
    return known.with_length(int(digits))


def _parse_head(raw: bytes, shape: bytes) -> ResponseHead:
    """Parse it, and remember it under `shape`."""
    parser = _HeadParser()
    parser.parser.feed_data(raw)
    status = parser.parser.get_status_code()
    headers = parser.headers
    framing, length = framing_of(status, headers)
    fields = dict(headers)
    head = ResponseHead(
        status,
        framing,
        length,
        # An encoded stream cannot be read; it is relayed as any other body.
        fields.get(b"content-type", b"").startswith(b"text/event-stream")
        and b"content-encoding" not in fields,
        framing is not Framing.CLOSE and parser.keep_alive,
        passed_lines(status, headers),
    )
    if len(_HEADS) >= _HEADS_KEPT:
        _HEADS.clear()
    _HEADS[shape] = head
    return head


def framing_of(status: int, headers: Headers) -> tuple[Framing, int]:
    """RFC 9112 section 6.3. httptools has refused repeated or contradicting lengths already."""
    if status == 101:
        raise FramingError("the worker switched protocols, which nobody asked for")
    if status in (204, 304) or status < 200:
        return Framing.NONE, 0
    length: int | None = None
    for name, value in headers:
        if name == b"transfer-encoding":
            if value.lower().strip() != b"chunked":
                raise FramingError(f"transfer-encoding {value[:40]!r} is not supported")
            return Framing.CHUNKED, 0
        if name == b"content-length":
            length = int(value)
    if length is None:
        return Framing.CLOSE, 0
    return (Framing.LENGTH, length) if length else (Framing.NONE, 0)


class UpstreamConnection(asyncio.Protocol):
    """Not shared: between `send` and the receiver's `on_end`/`on_lost` it belongs to one request."""

    __slots__ = (
        "_buffer",
        "_chunks",
        "_events",
        "_fast",
        "_framing",
        "_known",
        "_remaining",
        "_splitter",
        "alive",
        "event_limit",
        "generation",
        "idle_since",
        "receiver",
        "transport",
        "used",
        "worker",
    )

    def __init__(self, worker: Worker, event_limit: int) -> None:
        self.worker = worker
        self.generation = worker.generation
        """Of the worker that it leads to: a restarted one does not know it."""
        self.event_limit = event_limit
        self.receiver: Receiver | None = None
        self.transport: asyncio.Transport
        self.alive = False
        """Open and fit for another request."""
        self.used = 0
        """Requests sent so far; a reused connection may have been closed by the worker meanwhile."""
        self.idle_since = 0.0
        self._known: _KnownAnswer | None = None
        self._reset()

    def _reset(self) -> None:
        self._buffer = b""
        self._framing: Framing | None = None
        self._remaining = 0
        self._chunks: ChunkedReader | None = None
        self._splitter: EventSplitter | None = None
        self._fast = False
        """The next read may be relayed as it is, if it is one whole chunk."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]
        self.alive = True

    def data_received(self, data: bytes) -> None:
        if self._fast and whole_chunk(data):
            self.receiver.on_events(data)  # type: ignore[union-attr]
        elif self._known is None or not self._is_repeated(data, self._known):
            try:
                self._read(data)
            except _NONSENSE as error:
                self._lose(f"the worker's answer is malformed: {error}")

    def eof_received(self) -> bool:
        self.alive = False
        if self.receiver is not None and self._framing is Framing.CLOSE:
            self._finish()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        if self.receiver is not None:
            self._lose(f"the worker closed the connection{f' ({exc})' if exc else ''}")

    # for the request that owns it

    def send(self, receiver: Receiver, head: bytes, body: bytes | bytearray) -> None:
        self.receiver = receiver
        self.used += 1
        if len(body) <= _JOIN_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)

    def abandon(self) -> None:
        """Close without another word to the receiver; the worker sees the disconnect and aborts."""
        self.receiver = None
        self.alive = False
        self.transport.abort()

    @property
    def answering(self) -> bool:
        """Has any of the answer been read?"""
        return self._framing is not None or bool(self._buffer)

    # reading

    def _is_repeated(self, data: bytes, known: _KnownAnswer) -> bool:
        """Deliver the whole answer in `data`, if it has the head of the last one, which was good."""
        receiver = self.receiver
        if receiver is None or self._framing is not None or self._buffer:
            return False
        body = known.pattern.body_behind(data)
        if not body:
            return False
        head = known.head
        if head.length != len(body):
            head = head.with_length(len(body))
        receiver.on_head(head)
        if self.receiver is not None:  # it may not want this answer
            self.receiver = None
            receiver.on_whole(body)
        return True

    def _read(self, data: bytes) -> None:
        if self.receiver is None:
            # Bytes that nobody asked for: the connection cannot be trusted with another request.
            self.abandon()
            return
        begins = self._framing is None
        if begins:
            rest = self._read_head(data)
            if rest is None or self.receiver is None:
                return
            data = rest
        framing = self._framing
        if framing is Framing.CHUNKED:
            chunks = self._chunks
            assert chunks is not None
            payload = chunks.feed(data)
            if chunks.done:
                self.alive = self.alive and not chunks.excess
                self._deliver(payload, last=True)
                self._finish()
            else:
                self._deliver(payload)
                self._fast = self._splitter is not None and not self._splitter.held and chunks.at_boundary
        elif framing is Framing.LENGTH:
            if begins and self._splitter is None and len(data) == self._remaining:
                receiver, self.receiver = self.receiver, None
                self._reset()
                receiver.on_whole(data)
                return
            excess = len(data) - self._remaining
            if excess > 0:
                data = data[: self._remaining]
                self.alive = False
            self._remaining -= len(data)
            self._deliver(data)
            if self._remaining == 0:
                self._finish()
        elif framing is Framing.CLOSE:
            self._deliver(data)
        else:
            self.alive = self.alive and not data
            self._finish()

    def _read_head(self, data: bytes) -> bytes | None:
        """Parse the response head; what follows it, or None if it is not complete yet."""
        data = self._buffer + data if self._buffer else data
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > HEAD_BYTES:
                    raise FramingError(f"the response head is longer than {HEAD_BYTES} bytes")
                self._buffer = data
                return None
            end += 4
            raw, data = data[:end], data[end:]
            head = read_head(raw)
            if head.status >= 200:
                break
        self._buffer = b""
        if not head.keep_alive:
            self.alive = False
        elif len(data) == head.length and head.framing is Framing.LENGTH and not head.events:
            pattern = pattern_of(raw)
            self._known = _KnownAnswer(pattern, head) if pattern is not None else None
        self._framing = head.framing
        self._remaining = head.length
        if head.framing is Framing.CHUNKED:
            self._chunks = ChunkedReader()
        if head.events:
            self._splitter = EventSplitter(self.event_limit)
        self.receiver.on_head(head)  # type: ignore[union-attr]
        return data

    def _deliver(self, payload: bytes, *, last: bool = False) -> None:
        if not payload:
            return
        receiver = self.receiver
        assert receiver is not None
        splitter = self._splitter
        if splitter is None:
            receiver.on_body(payload)
        elif events := splitter.feed(payload):
            if last:
                receiver.on_last_events(chunk(events))
            else:
                receiver.on_events(chunk(events))

    def _finish(self) -> None:
        """The answer is complete, unless delivering its last piece made the receiver abandon it."""
        splitter = self._splitter
        if splitter is not None and splitter.held and self.receiver is not None:
            self.receiver.on_unfinished(splitter.held)
        receiver, self.receiver = self.receiver, None
        self._reset()
        if receiver is not None:
            receiver.on_end()

    def _lose(self, reason: str) -> None:
        receiver, self.receiver = self.receiver, None
        self.alive = False
        self.transport.abort()
        if receiver is not None:
            receiver.on_lost(reason)
