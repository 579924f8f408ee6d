"""One call: control messages in, events out, and the streams that it carries.

`docs/streams.md` has the messages. Nothing here knows WebRTC: a `Line` is whatever has the two channels.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from itertools import count
from typing import Any, Protocol

import msgspec
import structlog

from gateway.access.keys import Key
from gateway.errors import GatewayError, InvalidRequest, RateLimited
from gateway.relay.envelope import Envelope, read_wishes
from gateway.relay.extras import LogOptions
from gateway.relay.relay import Relay
from gateway.relay.request import FAMILIES
from gateway.transport.eloquent import PacketError
from gateway.transport.following import Following
from gateway.transport.library import Library
from gateway.transport.path import DatagramPath
from gateway.transport.settings import RealtimeSettings
from gateway.transport.stream import Stream
from gateway.transport.streams import owner_of
from gateway.transport.turns import Turns

log = structlog.get_logger(__name__)

CONTROL = "oai-events"
"""Label of the ordered, reliable channel."""
TOKENS = "tokens.eloquent.v1"
"""Label of the unordered one, whose messages are not repeated."""
MESSAGE_BYTES = 256 * 1024
_TASKS = 32
"""Control messages of one call that are being carried out at a time."""


class Line(DatagramPath, Protocol):
    """The two channels of a call."""

    on_open: Callable[[], None]
    on_text: Callable[[str], None]
    on_packet: Callable[[bytes], None]
    on_lost: Callable[[], None]

    @property
    def has_tokens(self) -> bool: ...

    @property
    def control_queued(self) -> int: ...

    def send_text(self, text: str) -> None: ...

    async def close(self) -> None: ...


class _Message(msgspec.Struct):
    type: str
    event_id: str | None = None
    path: str = "/v1/chat/completions"
    body: msgspec.Raw = msgspec.Raw(b"")
    response_id: str = ""
    stream_id: str = ""
    handle: int = 0
    starting_after: int = 0
    transport: str | None = None


_decoder = msgspec.json.Decoder(_Message)
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SENT_ON = b"content-type: application/json\r\nuser-agent: sluice-call\r\n"


class Call:
    """Belongs to the key whose offer opened it."""

    def __init__(
        self,
        call_id: str,
        line: Line,
        key: Key | None,
        headers: Mapping[str, str],
        peer: str,
        relay: Relay,
        library: Library,
        settings: RealtimeSettings,
        turns: Turns,
        *,
        eloquent: bool,
    ) -> None:
        self.id = call_id
        self.line = line
        self.key = key
        self.owner = owner_of(key)
        self.peer = peer
        self.connected = False
        """The control channel was opened."""
        self.created = self.heard = relay.now()
        """`heard`: when the last message came, or a stream ended."""
        self.ended = asyncio.Event()
        self.cause = ""
        self._headers = headers
        """Those of the offer that carry its key, to show to sibling processes."""
        self._relay = relay
        self._library = library
        self._settings = settings
        self._turns = turns
        self._eloquent = eloquent
        self._handles = count(1)
        self._events = count(1)
        self._following: dict[int, Following] = {}
        """By handle."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._rest = asyncio.Event()
        """Set when something that keeps it busy has ended."""
        line.on_open, line.on_text, line.on_packet = self._opened, self._text, self._packet
        line.on_lost = lambda: self.end("lost")

    @property
    def busy(self) -> bool:
        """Does it carry a stream, or is it about to?"""
        return bool(self._following or self._tasks)

    async def at_rest(self) -> None:
        """Wait until it carries nothing."""
        while self.busy:
            self._rest.clear()
            await self._rest.wait()

    def end(self, cause: str) -> None:
        """Hang up; `close` does the rest."""
        if not self.ended.is_set():
            self.cause = cause
            self.ended.set()

    async def close(self) -> None:
        """Let go of every stream and of the line."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for following in list(self._following.values()):
            await following.close()
        self._following.clear()
        await self.line.close()

    def tell(self, kind: str, in_answer_to: str | None = None, **fields: Any) -> None:
        """Send a control message."""
        message: dict[str, Any] = {"type": kind, "event_id": f"s{next(self._events)}"}
        if in_answer_to is not None:
            message["client_event_id"] = in_answer_to
        self.line.send_text(msgspec.json.encode(message | fields).decode())

    # what the line tells

    def _opened(self) -> None:
        self.connected = True
        self.heard = self._relay.now()
        session = {
            "id": self.id,
            "object": "realtime.session",
            "eloquent": self._eloquent,
            "expires_after": self._settings.idle_seconds,
        }
        self.tell("session.created", session=session)

    def _packet(self, packet: bytes) -> None:
        self.heard = self._relay.now()
        try:
            handle = handle_of(packet)
            following = self._following.get(handle)
            if following is not None:
                following.acknowledge(packet)
        except PacketError:
            self._library.streams.counts.packets["malformed"] += 1

    def _text(self, text: str) -> None:
        self.heard = self._relay.now()
        event_id: str | None = None
        try:
            if len(text) > MESSAGE_BYTES:
                raise InvalidRequest(
                    f"A message has at most {MESSAGE_BYTES} bytes.", code="message_too_large"
                )
            try:
                message = _decoder.decode(text)
            except (msgspec.DecodeError, RecursionError) as error:
                raise InvalidRequest(
                    f"The message cannot be read: {error}.", code="invalid_message"
                ) from None
            event_id = message.event_id
            self._dispatch(message)
        except GatewayError as error:
            self._refuse(error, event_id)

    def _dispatch(self, message: _Message) -> None:
        match message.type:
            case "session.ping":
                return
            case "response.create":
                self._start(self._create(message), message)
            case "response.cancel":
                self._start(self._cancel(message), message)
            case "stream.follow":
                self._start(self._follow_kept(message), message)
            case "stream.unfollow":
                self._start(self._unfollow(message), message)
            case other:
                raise InvalidRequest(
                    f"There is no message of type {other[:60]!r}.", code="unknown_message", param="type"
                )

    def _start(self, work: Coroutine[Any, Any, None], message: _Message) -> None:
        if len(self._tasks) >= _TASKS:
            work.close()
            raise RateLimited(
                "Too many messages are being worked on.", code="too_many_messages", retry_after=1
            )

        async def run() -> None:
            try:
                await work
            except GatewayError as error:
                self._refuse(error, message.event_id)
            except Exception:
                log.exception("a control message failed", call=self.id, type=message.type)
                self._refuse(GatewayError("The gateway failed on this message."), message.event_id)

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._task_over)

    def _task_over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._rest.set()

    def _refuse(self, error: GatewayError, event_id: str | None) -> None:
        form = {"message": error.message, "type": error.type, "code": error.code, "param": error.param}
        self.tell("error", event_id, error=form)

    # carrying messages out

    async def _create(self, message: _Message) -> None:
        self._check_room()
        stream = await self._begin(message)
        response = {"id": stream.id, "object": "realtime.response", "status": "in_progress"}
        self.tell("response.created", message.event_id, response=response)
        await self._follow(stream.id, 0, message)

    async def _begin(self, message: _Message) -> Stream:
        """Start an inference request as if it had been POSTed, and wait until the engine has accepted it."""
        relay = self._relay
        path = message.path.encode()
        family = FAMILIES.get(path)
        if family is None:
            raise InvalidRequest(f"Nothing is relayed at {message.path[:60]!r}.", param="path")
        try:
            body = _object_decoder.decode(message.body)
        except msgspec.DecodeError as error:
            raise InvalidRequest(f"The body must be a JSON object: {error}.", param="body") from None
        body["stream"] = msgspec.Raw(b"true")
        fields = {name.encode("latin-1"): value.encode("latin-1") for name, value in self._headers.items()}
        admitter = relay.admitter
        key = admitter.authenticate(fields)  # again: it may have been revoked since the offer
        envelope = Envelope(path, family, _SENT_ON, key, read_wishes(fields))
        call = admitter.admit(envelope, relay.new_request_id(), msgspec.json.encode(body), b"")
        call.log = call.log or LogOptions("resumable")
        exchange = self._library.streams.open(None, call, key)
        exchange.tap.peer = self.peer
        stream = exchange.tap.stream
        news = asyncio.Event()
        stream.listeners[news.set] = None
        try:
            exchange.start()
            while not (exchange.tap.begun or stream.ended):
                news.clear()
                await news.wait()
        except asyncio.CancelledError:
            exchange.client_gone()
            raise
        finally:
            del stream.listeners[news.set]
        if not exchange.tap.begun:
            raise refusal_of(stream)
        return stream

    async def _cancel(self, message: _Message) -> None:
        stream_id = message.response_id or message.stream_id
        status, last = await self._library.cancel_anywhere(stream_id, self.owner, self._headers)
        if not any(following.stream_id == stream_id for following in self._following.values()):
            self._tell_done(stream_id, status, last, message.event_id)

    async def _follow_kept(self, message: _Message) -> None:
        self._check_room()
        if message.starting_after < 0:
            raise InvalidRequest("starting_after must not be negative.", code="invalid_starting_after")
        await self._follow(message.stream_id, message.starting_after, message)

    async def _follow(self, stream_id: str, after: int, message: _Message) -> None:
        if message.transport not in (None, "eloquent", "events"):
            raise InvalidRequest("transport must be `eloquent` or `events`.", param="transport")
        packets = self._eloquent and self.line.has_tokens and message.transport != "events"
        if message.transport == "eloquent" and not packets:
            raise InvalidRequest("This call has no channel for Eloquent packets.", param="transport")
        reader = await self._library.read_anywhere(
            stream_id, self.owner, after, "eloquent" if packets else "events", self._headers
        )
        packets = packets and reader.family in ("chat", "completions")
        handle = next(self._handles)
        self.tell(
            "stream.following",
            message.event_id,
            stream_id=stream_id,
            starting_after=after,
            transport="eloquent" if packets else "events",
            handle=handle,
        )
        following = Following(
            handle, reader, self.line, self._library.streams.counts, self._turns, self._over
        )
        self._following[handle] = following
        following.start(self.tell, packets=packets)

    async def _unfollow(self, message: _Message) -> None:
        for handle, following in list(self._following.items()):
            if message.handle in (0, handle) and following.stream_id == message.stream_id:
                del self._following[handle]
                await following.close()

    def _over(self, following: Following, reason: str | None) -> None:
        """A stream was delivered to its end, or cannot be carried on here."""
        self.heard = self._relay.now()
        self._following.pop(following.handle, None)
        if reason is None:
            # The last event may be acknowledged before the exchange has said its last word.
            status = "completed" if following.status == "running" else following.status
            self._tell_done(following.stream_id, status, following.last, handle=following.handle)
        else:
            self._library.streams.counts.fallbacks[reason] += 1
            self.tell(
                "stream.fallback",
                stream_id=following.stream_id,
                handle=following.handle,
                reason=reason,
                message=f"Go on with GET /v1/streams/{following.stream_id}?starting_after=N.",
            )
        task = asyncio.get_running_loop().create_task(following.close())
        self._tasks.add(task)
        task.add_done_callback(self._task_over)

    def _tell_done(
        self, stream_id: str, status: str, last: int, event_id: str | None = None, **more: int
    ) -> None:
        response = {"id": stream_id, "object": "realtime.response", "status": status}
        self.tell("response.done", event_id, response=response, last=last, **more)

    def _check_room(self) -> None:
        if len(self._following) >= self._settings.streams_per_call:
            raise RateLimited(
                f"A call carries at most {self._settings.streams_per_call} streams at a time.",
                code="too_many_streams",
                retry_after=1,
            )


def handle_of(packet: bytes) -> int:
    """The stream's handle in a packet's head. Raises PacketError if there is none."""
    value = 0
    start = 2 if packet[:1] == b"\x10" else 1  # data has flags before it, an acknowledgement has none
    for place, byte in enumerate(packet[start : start + 5]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value
    raise PacketError("the packet has no stream")


def refusal_of(stream: Stream) -> GatewayError:
    """The error of an answer that was no stream."""
    if stream.refusal is None:
        return GatewayError(
            "The request was ended before it was answered.", code="stream_cancelled", status=409
        )
    status, body = stream.refusal
    error = GatewayError(f"The engine answered with status {status} and no stream.", status=status)
    try:
        said = msgspec.json.decode(body)
        said = said.get("error", said)
        error = GatewayError(
            str(said.get("message") or error.message),
            code=str(said.get("code") or status),
            param=said.get("param"),
            status=status,
        )
        error.type = str(said.get("type") or error.type)
    except (msgspec.DecodeError, AttributeError):
        pass
    return error


def new_call_id(process: int) -> str:
    """Unguessable, and tells which process has the call."""
    return f"call{process}_{secrets.token_urlsafe(20)}"
