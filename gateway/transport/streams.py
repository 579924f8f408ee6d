"""All kept streams of one process: who may read them, what they may cost, and when they are forgotten."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import defaultdict
from typing import Protocol

import structlog

from gateway.access.keys import Key
from gateway.errors import GatewayError, NotFound, RateLimited
from gateway.relay.call import Call
from gateway.relay.client import Client
from gateway.relay.relay import Relay
from gateway.transport.counts import LATE_SECONDS, Path, StreamCounts
from gateway.transport.settings import StreamSettings
from gateway.transport.stream import Status, Stream
from gateway.transport.tap import LoggedExchange, Tap
from gateway.transport.token_log import TokenLog

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 1.0
_ID = re.compile(r"st(\d{1,4})_[A-Za-z0-9_-]{27}")


class StreamCancelled(GatewayError):
    status, type, code = 409, "invalid_request_error", "stream_cancelled"


class Mirror(Protocol):
    """Keeps streams elsewhere too, so that other gateways can serve them."""

    def begun(self, stream: Stream) -> None: ...

    def appended(self, stream: Stream, number: int, event: bytes) -> None: ...

    def ended(self, stream: Stream) -> None: ...


def process_of(stream_id: str) -> int | None:
    """Number of the gateway process that made a stream's id, None if it is no such id."""
    found = _ID.fullmatch(stream_id)
    return int(found[1]) if found else None


def not_found(stream_id: str) -> NotFound:
    """The one answer about a stream that is unknown, expired, or somebody else's."""
    return NotFound(
        f"There is no stream {stream_id[:64]!r}: it is unknown or has expired, the gateway was restarted "
        "since, or another API key made it.",
        code="stream_not_found",
        param="stream_id",
    )


class Streams:
    """`number` is this process's among those of its gateway; ids carry it."""

    def __init__(
        self, settings: StreamSettings, relay: Relay, number: int = 0, mirror: Mirror | None = None
    ) -> None:
        self.settings = settings
        self.counts = StreamCounts()
        self.bytes = 0
        """Kept now, overhead included."""
        self._relay = relay
        self._number = number
        self._mirror = mirror
        self._streams: dict[str, Stream] = {}
        self._ended: dict[str, Stream] = {}
        """Of these, the ended ones in the order in which they ended."""
        self._key_bytes: defaultdict[str, int] = defaultdict(int)
        self._running: defaultdict[str, int] = defaultdict(int)
        """By owner: streams asked for that have not ended."""

    # making

    def open(self, client: Client | None, call: Call, key: Key | None) -> LoggedExchange:
        """An exchange whose answer is kept, to be started. Implements `relay.OpenLogged`.

        Raises RateLimited.
        """
        owner = owner_of(key)
        if self._running[owner] >= self.settings.running_per_key:
            raise RateLimited(
                f"{self._running[owner]} streams of this API key are running; end one, or ask without "
                "x-sluice-stream.",
                code="too_many_streams",
                retry_after=5,
            )
        assert call.log is not None
        now = self._relay.now()
        id_ = f"st{self._number}_{secrets.token_urlsafe(20)}"
        kept = TokenLog(self.settings.stream_bytes)
        stream = Stream(id_, owner, call.envelope.family, call.log.mode, kept, now)
        stream.readers = 0 if client is None else 1
        tap = Tap(self, stream, client, client.peer if client is not None else "", ids=call.log.ids)
        stream.exchange = tap.exchange = LoggedExchange(self._relay, tap, call, now)
        self._running[owner] += 1
        return stream.exchange

    # finding

    def find(self, stream_id: str, owner: str) -> Stream | None:
        """A stream of this process, if `owner` may know of it."""
        stream = self._streams.get(stream_id)
        return stream if stream is not None and stream.owner == owner else None

    def cancel(self, stream: Stream) -> None:
        """Its reader wants no more of it; nothing happens if it has ended."""
        if stream.exchange is not None:
            stream.exchange.cancel(StreamCancelled("The stream was cancelled."), "cancelled")

    def cancel_by_id(self, stream_id: str) -> None:
        """As `cancel`, by the word of another gateway, which has checked whose stream it is."""
        if (stream := self._streams.get(stream_id)) is not None:
            self.cancel(stream)

    # reading

    def is_read_elsewhere(self, stream_id: str) -> None:
        """Another gateway has a reader of it, through the shared store."""
        if (stream := self._streams.get(stream_id)) is not None:
            stream.idle_since = self._relay.now()

    def reader_came(self, stream: Stream, path: Path, after: int) -> None:
        stream.readers += 1
        if after:
            self.counts.resumed[path] += 1

    def reader_left(self, stream: Stream) -> None:
        stream.readers -= 1
        if not stream.readers:
            stream.idle_since = self._relay.now()
            if not self.settings.grace_seconds:
                self._check(stream, stream.idle_since)

    def delivered(self, stream: Stream, path: Path, before: int, upto: int, sent: int = -1) -> None:
        """Events `before + 1 .. upto` reached a reader; `sent` bytes, by default their own."""
        counts = self.counts
        counts.events[path] += upto - before
        stream_log = stream.log
        counts.late[path] += stream_log.late(before, upto, self._relay.now() - LATE_SECONDS)
        counts.bytes[path] += stream_log.size_of(before, upto) if sent < 0 else sent

    # what taps report

    def begun(self, stream: Stream) -> None:
        """The engine has accepted the request: the stream can be found from now on."""
        self.counts.opened[stream.mode] += 1
        self._streams[stream.id] = stream
        if self._mirror is not None:
            self._mirror.begun(stream)
        stream.notify()

    def append(self, stream: Stream, event: bytes) -> None:
        before = stream.log.size
        number = stream.log.append(event, self._relay.now())
        self._grow(stream, stream.log.size - before)
        if self._mirror is not None:
            self._mirror.appended(stream, number, event)
        stream.notify()

    def ended(self, stream: Stream, status: Status) -> None:
        if stream.ended:
            return
        stream.status = status
        stream.ended_at = self._relay.now()
        if stream.exchange is not None and not stream.exchange.tap.attached:
            stream.exchange = None
        self._running[stream.owner] -= 1
        if not self._running[stream.owner]:
            del self._running[stream.owner]
        if stream.id in self._streams:
            self.counts.ended[status] += 1
            self._ended[stream.id] = stream
            if self._mirror is not None:
                self._mirror.ended(stream)
        stream.notify()

    # bounds

    def _grow(self, stream: Stream, by: int) -> None:
        self.bytes += by
        self._key_bytes[stream.owner] += by
        settings = self.settings
        if self._key_bytes[stream.owner] > settings.key_bytes:
            self._make_room(stream, "key")
        if self.bytes > settings.total_bytes:
            self._make_room(stream, "total")

    def _make_room(self, growing: Stream, bound: str) -> None:
        """Forget ended streams, oldest first; if that is not enough, the growing one loses its own events."""

        def excess() -> int:
            if bound == "key":
                return self._key_bytes[growing.owner] - self.settings.key_bytes
            return self.bytes - self.settings.total_bytes

        for old in list(self._ended.values()):
            if excess() <= 0:
                return
            if bound == "total" or old.owner == growing.owner:
                self._forget(old)
                self.counts.evicted[bound] += 1
        if (over := excess()) > 0:
            freed = growing.log.shrink(max(0, growing.log.size - over))
            self.bytes -= freed
            self._key_bytes[growing.owner] -= freed

    def _forget(self, stream: Stream) -> None:
        self._streams.pop(stream.id, None)
        self._ended.pop(stream.id, None)
        self.bytes -= stream.log.size
        self._key_bytes[stream.owner] -= stream.log.size
        if not self._key_bytes[stream.owner]:
            del self._key_bytes[stream.owner]

    # time

    def sweep(self, now: float) -> None:
        """End what nobody reads or what runs too long, and forget what was kept long enough."""
        for stream in list(self._streams.values()):
            self._drop_stalled(stream, now)
            if stream.ended:
                if now - stream.ended_at > self.settings.keep_seconds:
                    self._forget(stream)
            else:
                self._check(stream, now)

    def _check(self, stream: Stream, now: float) -> None:
        exchange = stream.exchange
        if exchange is None:
            return
        settings = self.settings
        if stream.mode == "detached":
            if now - stream.created > settings.detached_seconds:
                message = f"A detached stream may run for {settings.detached_seconds:g} s."
                exchange.cancel(GatewayError(message, code="stream_too_long"), "cancelled")
        elif not stream.readers and now - stream.idle_since >= settings.grace_seconds:
            message = f"Nobody has read the stream for {settings.grace_seconds:g} s."
            exchange.cancel(GatewayError(message, code="stream_abandoned"), "client_gone")

    def _drop_stalled(self, stream: Stream, now: float) -> None:
        """Give up a connection that does not take what was written, as the relay does with every stream."""
        if (exchange := stream.exchange) is not None:
            limit, since = exchange.call.timeouts.stalled_client, exchange.tap.paused_since
            if limit and since and now - since > limit:
                exchange.tap.detach()

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep(self._relay.now())

    def gauges(self) -> dict[str, int]:
        """For metrics."""
        return {
            "running": sum(self._running.values()),
            "kept": len(self._streams),
            "readers": sum(stream.readers for stream in self._streams.values() if not stream.ended),
            "log_bytes": self.bytes,
        }


def owner_of(key: Key | None) -> str:
    """To whom a key's streams belong."""
    return key.id if key is not None else ""
