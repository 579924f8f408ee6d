"""Kept streams in Valkey too, so that another gateway can serve them: after a restart, or as a replica.

    sluice:stream:{id}    stream   entry N-0 holds event number N (e), entry last-1 the status at the end (s)
    sluice:about:{id}     hash     owner, family, instance
    sluice:alive:{inst}   string   renewed while that process lives
    sluice:tell:{inst}    channel  "cancel ID" and "reading ID", for the process that runs the stream

The process that runs a stream serves it from memory and writes here behind its back: Valkey never slows
an answer, and while Valkey is away only reading elsewhere is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog
import valkey.asyncio
from valkey.exceptions import ValkeyError

from gateway.errors import GatewayError, Unavailable
from gateway.transport.counts import Path, StreamCounts
from gateway.transport.reader import BATCH, Reader, StreamLost, checked_start
from gateway.transport.settings import StreamSettings
from gateway.transport.stream import Status, Stream
from gateway.transport.streams import Streams

log = structlog.get_logger(__name__)

_ALIVE_SECONDS = 5.0
_ALIVE_KEPT = 20
_BLOCK_MS = 5_000
_PENDING_BYTES = 16 * 1024 * 1024
"""What may wait to be written; beyond it streams are no longer kept here."""
_RECONNECT_SECONDS = 1.0
_ON_ITS_WAY_SECONDS = 0.1
_LAST_WRITE_SECONDS = 2.0
_FAILURES = (ValkeyError, OSError)

Command = tuple[Any, ...]


class ValkeyStore:
    """Implements `streams.Mirror` and `library.Store`. `run` it while the gateway serves."""

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings
        self._client = valkey.asyncio.Valkey.from_url(
            settings.valkey_url, socket_connect_timeout=2.0, health_check_interval=15
        )
        self._instance = secrets.token_hex(8)
        self._streams: Streams | None = None
        self._pending: deque[Command] = deque()
        self._pending_bytes = 0
        self._news = asyncio.Event()
        self._closing = False
        self._trimmed: dict[str, int] = {}

    def attach(self, streams: Streams) -> None:
        """Tell which streams this process runs."""
        self._streams = streams

    # streams.Mirror

    def begun(self, stream: Stream) -> None:
        seconds = int(self._settings.detached_seconds + self._settings.keep_seconds) or 1
        about = ("owner", stream.owner, "family", stream.family, "instance", self._instance)
        self._write("HSET", _about(stream.id), *about)
        self._write("EXPIRE", _about(stream.id), seconds)
        self._trimmed[stream.id] = 1

    def appended(self, stream: Stream, number: int, event: bytes) -> None:
        if stream.id not in self._trimmed:
            return
        self._write("XADD", _events(stream.id), f"{number}-0", "e", event)
        if number == 1:
            seconds = int(self._settings.detached_seconds + self._settings.keep_seconds) or 1
            self._write("EXPIRE", _events(stream.id), seconds)
        first = stream.log.first
        if first - self._trimmed[stream.id] > 64:
            self._trimmed[stream.id] = first
            self._write("XTRIM", _events(stream.id), "MINID", first)

    def ended(self, stream: Stream) -> None:
        if self._trimmed.pop(stream.id, None) is None:
            return
        seconds = int(self._settings.keep_seconds) or 1
        self._write("XADD", _events(stream.id), f"{stream.log.last}-1", "s", stream.status)
        self._write("EXPIRE", _events(stream.id), seconds)
        self._write("EXPIRE", _about(stream.id), seconds)

    def _write(self, *command: Any) -> None:
        self._pending.append(command)
        self._pending_bytes += len(command[-1]) if isinstance(command[-1], bytes) else 0
        if self._pending_bytes > _PENDING_BYTES:
            self._give_up("behind")
        self._news.set()

    def _give_up(self, why: str) -> None:
        """Streams that are being written have a gap now: keep none of them here any longer."""
        self._pending.clear()
        self._pending_bytes = 0
        self._trimmed.clear()
        if self._streams is not None:
            self._streams.counts.mirror_errors[why] += 1

    # library.Store

    async def read(self, stream_id: str, owner: str, after: int, path: Path) -> Reader | None:
        try:
            about = await self._about(stream_id, owner)
            if about is None:
                return None
            oldest = await self._client.xrange(_events(stream_id), count=1)
            newest = await self._client.xrevrange(_events(stream_id), count=1)
        except _FAILURES as error:
            raise self._unavailable("read") from error
        first = _number(oldest[0][0]) if oldest else 1
        checked_start(after, first, _number(newest[0][0]) if newest else 0)
        assert self._streams is not None
        family, instance = about[b"family"].decode(), about[b"instance"].decode()
        return ValkeyReader(self, self._streams.counts, stream_id, family, instance, after, path)

    async def cancel(self, stream_id: str, owner: str) -> tuple[Status, int] | None:
        try:
            about = await self._about(stream_id, owner)
            if about is None:
                return None
            status, last = await self._status(stream_id)
            if status == "running":
                heard = await self._client.publish(
                    f"sluice:tell:{about[b'instance'].decode()}", f"cancel {stream_id}"
                )
                status = "cancelled" if heard else "failed"
        except _FAILURES as error:
            raise self._unavailable("cancel") from error
        return status, last

    async def _about(self, stream_id: str, owner: str) -> dict[bytes, bytes] | None:
        """None if there is none for `owner`. One that has just begun elsewhere may be on its way here."""
        for attempt in range(2):
            if attempt:
                await asyncio.sleep(_ON_ITS_WAY_SECONDS)
            about: dict[bytes, bytes] = await self._client.hgetall(_about(stream_id))
            if about:
                break
        return about if about.get(b"owner", b"?").decode() == owner else None

    async def _status(self, stream_id: str) -> tuple[Status, int]:
        newest = await self._client.xrevrange(_events(stream_id), count=1)
        if not newest:
            return "running", 0
        return newest[0][1].get(b"s", b"running").decode(), _number(newest[0][0])

    def _unavailable(self, what: str) -> Unavailable:
        if self._streams is not None:
            self._streams.counts.mirror_errors[what] += 1
        return Unavailable(
            "The store of kept streams does not answer.", code="store_unavailable", retry_after=2
        )

    # for readers

    async def fetch(self, stream_id: str, last: bytes) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Entries behind `last`, waited for a while. Raises ValkeyError, OSError."""
        key = _events(stream_id)
        found = await self._client.xread({key: last}, count=BATCH, block=_BLOCK_MS)
        return found[0][1] if found else []

    async def still_reading(self, stream_id: str, instance: str) -> bool:
        """Tell the process that runs a stream that it is read here; False if that process is gone."""
        await self._client.publish(f"sluice:tell:{instance}", f"reading {stream_id}")
        return bool(await self._client.exists(f"sluice:alive:{instance}"))

    # background

    async def run(self) -> None:
        """Write, listen to other gateways, and show that this process lives, until cancelled."""
        # What is being written when this is cancelled is still written.
        writer = asyncio.ensure_future(self._writing())
        try:
            await asyncio.gather(asyncio.shield(writer), self._listening(), self._living())
        finally:
            self._closing = True
            self._news.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(writer, _LAST_WRITE_SECONDS)
            with contextlib.suppress(*_FAILURES):
                await self._client.aclose()

    async def _writing(self) -> None:
        while not (self._closing and not self._pending):
            await self._news.wait()
            self._news.clear()
            try:
                await self._flush()
            except _FAILURES as error:
                log.warning("streams are not kept in Valkey", error=str(error))
                self._give_up("write")
                if not self._closing:
                    await asyncio.sleep(_RECONNECT_SECONDS)

    async def _flush(self) -> None:
        pipeline = self._client.pipeline(transaction=False)
        while self._pending:
            pipeline.execute_command(*self._pending.popleft())
        self._pending_bytes = 0
        await pipeline.execute()

    async def _living(self) -> None:
        while True:
            with contextlib.suppress(*_FAILURES):
                await self._client.set(f"sluice:alive:{self._instance}", "1", ex=_ALIVE_KEPT)
            await asyncio.sleep(_ALIVE_SECONDS)

    async def _listening(self) -> None:
        while True:
            try:
                async with self._client.pubsub() as channel:
                    await channel.subscribe(f"sluice:tell:{self._instance}")
                    async for message in channel.listen():
                        if message["type"] == "message":
                            self._told(message["data"].decode())
            except _FAILURES:
                await asyncio.sleep(_RECONNECT_SECONDS)

    def _told(self, message: str) -> None:
        what, _, stream_id = message.partition(" ")
        if self._streams is None:
            return
        if what == "cancel":
            self._streams.cancel_by_id(stream_id)
        elif what == "reading":
            self._streams.is_read_elsewhere(stream_id)


class ValkeyReader:
    """A `Reader` of a stream that some other process runs, or ran."""

    def __init__(
        self,
        store: ValkeyStore,
        counts: StreamCounts,
        stream_id: str,
        family: str,
        instance: str,
        after: int,
        path: Path,
    ) -> None:
        self.stream_id = stream_id
        self.family = family
        self.after = after
        self._counts = counts
        self._path: Path = path
        self._status: Status = "running"
        self._waiting: deque[bytes] = deque()
        self._room = asyncio.Event()
        self._lost: GatewayError | None = None
        self._listener: Callable[[], None] | None = None
        if after:
            counts.resumed[path] += 1
        self._reading = asyncio.ensure_future(self._read(store, instance))

    @property
    def status(self) -> Status:
        return self._status

    @property
    def at_end(self) -> bool:
        return not self._waiting and self._lost is None

    def take(self) -> list[bytes]:
        if self._lost is not None and not self._waiting:
            lost, self._lost, self._status = self._lost, None, "failed"
            raise lost
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

    async def _read(self, store: ValkeyStore, instance: str) -> None:
        number = self.after
        last = b"%d-0" % number
        told = 0.0
        alive = True
        loop = asyncio.get_running_loop()
        try:
            while self._status == "running":
                if loop.time() - told > _ALIVE_SECONDS:
                    told = loop.time()
                    alive = await store.still_reading(self.stream_id, instance)
                entries = await store.fetch(self.stream_id, last)
                if not entries and not alive:
                    raise StreamLost("The gateway that ran the stream has died.")
                for entry, fields in entries:
                    last = entry
                    if b"s" in fields:
                        self._status = fields[b"s"].decode()  # type: ignore[assignment]
                        break
                    number += 1
                    if _number(entry) != number:
                        raise StreamLost("Events of the stream were lost on the way to its store.")
                    self._waiting.append(fields[b"e"])
                if entries:
                    self._tell()
                while len(self._waiting) > 4 * BATCH:
                    self._room.clear()
                    await self._room.wait()
        except GatewayError as error:
            self._lost = error
        except _FAILURES:
            self._lost = Unavailable("The store of kept streams does not answer.", code="store_unavailable")
        self._tell()

    def _tell(self) -> None:
        if self._listener is not None:
            self._listener()


def _number(entry: bytes) -> int:
    return int(entry.partition(b"-")[0])


def _events(stream_id: str) -> str:
    return f"sluice:stream:{stream_id}"


def _about(stream_id: str) -> str:
    return f"sluice:about:{stream_id}"
