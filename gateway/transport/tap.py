"""Stands between an exchange and the client's connection, and keeps the events that pass.

Only answers that somebody asked to keep come through here; every other exchange writes to its connection
directly and knows nothing of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from gateway.errors import GatewayError
from gateway.relay.client import Client
from gateway.relay.exchange import PING_CHUNK, Exchange
from gateway.relay.framing import LAST_CHUNK, ChunkedReader, chunk, whole_chunk
from gateway.relay.sse import error_event, split_events
from gateway.relay.states import ANSWERING, DONE
from gateway.routing.assignment import Outcome
from gateway.transport.stream import Status, Stream
from gateway.transport.token_log import Truncated

if TYPE_CHECKING:
    from gateway.transport.streams import Streams

_STATUS_OF_END: dict[str, Status] = {"ok": "completed", "cancelled": "cancelled", "client_gone": "cancelled"}


class StreamTruncated(GatewayError):
    status, type, code = 410, "invalid_request_error", "stream_truncated"


def truncated(first: int) -> StreamTruncated:
    """What a reader is told who has fallen out of the ring."""
    return StreamTruncated(f"Events before number {first} are not kept any more.", param="starting_after")


class LoggedExchange(Exchange):
    """Ends with its stream's last reader, not with the connection that asked for it."""

    tap: Tap = None  # type: ignore[assignment]
    """The client, as what it is here."""

    def __post_init__(self) -> None:
        self.tap = cast(Tap, self.client)

    @property
    def early_head(self) -> float | None:  # type: ignore[override]
        return self.tap.early_head

    def client_gone(self, end: str = "client_gone") -> None:
        tap = self.tap
        if end in ("client_gone", "client_stalled") and tap.attached:
            if self.stalled_since:
                super().client_resumed()
            tap.detach()
            if tap.begun or self.state is DONE:
                return
        if self.state is DONE:
            return
        if tap.begun:
            self.cancel(GatewayError("The gateway ended the stream.", code=f"stream_{end}"), end)
        else:
            super().client_gone(end)
            tap.abort()

    def cancel(self, error: GatewayError, end: str) -> None:
        """Stop the engine's work; readers are told by `error`."""
        if self.state is ANSWERING and self.tap.begun:
            event = error_event(self.call.envelope.family, error, self.passed.last)
            super().client_gone(end)
            self.tap.break_off(event)
        elif self.state is not DONE:
            self.fail(error, end)

    def client_paused(self) -> None:
        self.tap.pause(self.relay.now())
        if self.tap.stream.mode != "detached":
            super().client_paused()

    def client_resumed(self) -> None:
        super().client_resumed()
        self.tap.resume()

    def _done(self, end: str, outcome: Outcome) -> None:
        super()._done(end, outcome)
        self.tap.status = _STATUS_OF_END.get(end, "failed")


class Tap:
    """Implements `exchange.Client`; `client` is the real one, None where no connection asked."""

    __slots__ = (
        "_chunks",
        "_client",
        "_cursor",
        "_ids",
        "_keep_alive",
        "_last_chunk",
        "_over",
        "_passing",
        "_refusal",
        "_streams",
        "begun",
        "early_head",
        "exchange",
        "paused_since",
        "peer",
        "status",
        "stream",
    )

    http11 = True

    def __init__(
        self, streams: Streams, stream: Stream, client: Client | None, peer: str, *, ids: bool
    ) -> None:
        self._streams = streams
        self.stream = stream
        self._client = client
        self._ids = ids
        self.peer = peer
        self.early_head: float | None = streams.settings.early_head_seconds
        self.exchange: LoggedExchange
        self.begun = False
        """Has the answer begun, and is it a stream that is kept?"""
        self._passing = False
        """It has begun and is not kept: an error, or no stream."""
        self._refusal = bytearray()
        """The same, as bytes, where there is no client to get it."""
        self._chunks = ChunkedReader()
        self._cursor = 0
        """Number of the last event that was written to the client."""
        self._last_chunk = False
        self._over = False
        """The exchange has said its last word."""
        self._keep_alive = False
        self.paused_since = 0.0
        """Since when the client does not take what was written; 0 while it does."""
        self.status: Status = "failed"
        """How the exchange ended, once it has."""

    @property
    def attached(self) -> bool:
        """Is the connection that asked for the stream still there?"""
        return self._client is not None

    @property
    def keep_alive(self) -> bool:
        return self._client is not None and self._client.keep_alive

    @keep_alive.setter
    def keep_alive(self, value: bool) -> None:
        if self._client is not None:
            self._client.keep_alive = value

    # exchange.Client

    def write(self, data: bytes) -> None:
        head = b""
        if not self.begun:
            if self._passing or not self._begins():
                self._pass(data)
                return
            end = data.index(b"\r\n\r\n") + 2
            head = b"%bx-sluice-stream-id: %b\r\n\r\n" % (data[:end], self.stream.id.encode())
            data = data[end + 2 :]
            self.begun = True
            self._streams.begun(self.stream)
        if not data or data == PING_CHUNK:
            if self._client is not None and (head or not self.paused_since):
                self._client.write(head + data)
            return
        before = self.stream.log.last
        in_step = self._cursor == before and not self._ids and not self.paused_since
        self._keep(data)
        client = self._client
        if client is None:
            return
        if in_step:
            self._advance(before)
            self._last_chunk = self._chunks.done
            client.write(head + data)
        else:
            if head:
                client.write(head)
            self._catch_up()

    def answered(self, keep_alive: bool) -> None:
        self._over = True
        self._keep_alive = keep_alive
        if self._refusal:
            self.stream.refusal = _status_and_body(bytes(self._refusal))
        self._streams.ended(self.stream, self.status)
        self._catch_up()

    def abort(self) -> None:
        if (client := self._released()) is not None:
            client.abort()
        if self.exchange.state is DONE:
            self._streams.ended(self.stream, self.status)

    # for the exchange that owns it

    def detach(self) -> None:
        """The client is gone, or is to go."""
        if (client := self._released()) is not None:
            client.abort()

    def pause(self, now: float) -> None:
        self.paused_since = self.paused_since or now

    def resume(self) -> None:
        self.paused_since = 0.0
        if self.begun:
            self._catch_up()

    def break_off(self, event: bytes) -> None:
        """The exchange was stopped: `event` says so to every reader."""
        self._streams.append(self.stream, event)
        self.answered(keep_alive=False)

    # inside

    def _released(self) -> Client | None:
        """The client, which gets nothing more from here: the stream has a reader less."""
        client, self._client = self._client, None
        if client is not None:
            self._streams.reader_left(self.stream)
            if self.stream.ended:
                self.stream.exchange = None
        return client

    def _begins(self) -> bool:
        exchange = self.exchange
        return exchange.state is ANSWERING and exchange.status == 200 and exchange.is_event_stream

    def _pass(self, data: bytes) -> None:
        self._passing = True
        if self._client is not None:
            self._client.write(data)
        else:
            self._refusal += data

    def _keep(self, data: bytes) -> None:
        """Split chunk-framed `data` into events and append them."""
        if whole_chunk(data):
            payload = data[data.index(b"\r\n") + 2 : -2]
            if payload.count(b"\n\n") == 1 and b"\r" not in payload and payload[:1] != b":":
                self._streams.append(self.stream, payload)
                return
        else:
            payload = self._chunks.feed(data)
        for event in split_events(payload):
            self._streams.append(self.stream, event)

    def _advance(self, before: int) -> None:
        self._cursor = self.stream.log.last
        self._streams.delivered(self.stream, "post", before, self._cursor)

    def _catch_up(self) -> None:
        """Write what the client has not got, and the end if it is there."""
        client = self._client
        if client is None or self.paused_since:
            return
        log = self.stream.log
        out = b""
        if self._cursor < log.last:
            before = self._cursor
            try:
                events = log.after(before)
            except Truncated as gone:
                out = chunk(error_event(self.stream.family, truncated(gone.first), b"")) + LAST_CHUNK
                client.write(out)
                client.answered(keep_alive=False)
                self._streams.counts.truncated["post"] += 1
                self._released()
                return
            self._advance(before)
            if self._ids:
                events = [b"id: %d\n%b" % (number, event) for number, event in enumerate(events, before + 1)]
            out = b"".join(map(chunk, events))
        if self._over and self.begun and not self._last_chunk:
            out += LAST_CHUNK
            self._last_chunk = True
        if out:
            client.write(out)
        if self._over:
            client.answered(self._keep_alive)
            self._released()


def _status_and_body(answer: bytes) -> tuple[int, bytes]:
    """Of a whole answer as it would stand on the wire."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"\r\ntransfer-encoding: chunked" in head:
        body = ChunkedReader().feed(body)
    return int(head.split(b" ", 2)[1]), body
