"""The client's end of a call: opens it, and follows streams on its channels."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
import orjson

from gateway.chat.http import ChatError
from gateway.transport import sctp_thrift
from gateway.transport.call import CONTROL, TOKENS, handle_of
from gateway.transport.eloquent import PacketError, Reassembler, expand

_OPEN_SECONDS = 15.0
_EARLY_PACKETS = 64
"""Packets that are kept until their handle has been told."""
_PING_SECONDS = 20.0

Deliver = Callable[[int, bytes], None]
"""(number, data) of an event, in order."""
Over = Callable[[str | None], None]
"""Called once: None if the stream was delivered to its end, else why it was not."""


def import_webrtc() -> Any:
    """The module aiortc. Raises ChatError."""
    try:
        import aiortc
    except ImportError as error:
        raise ChatError("the data channel needs WebRTC: pip install 'sluice[webrtc]'") from error
    return aiortc


@dataclass(slots=True)
class Followed:
    """One stream on the call."""

    stream_id: str
    after: int
    deliver: Deliver
    over: Over
    heard: float
    """When something last came for it."""
    handle: int = 0
    """0 until the gateway has told it."""
    reassembler: Reassembler | None = None
    timer: asyncio.TimerHandle | None = None
    closed: bool = False

    def finish(self, reason: str | None) -> None:
        """Tell that it is over, once."""
        if not self.closed:
            self.closed = True
            if self.timer is not None:
                self.timer.cancel()
            self.over(reason)


@dataclass(slots=True)
class _State:
    asked: dict[str, Followed] = field(default_factory=dict)
    """By the `event_id` of the message that asked for them, until it is answered."""
    handles: dict[int, Followed] = field(default_factory=dict)
    early: list[tuple[int, bytes]] = field(default_factory=list)


class Channel:
    """`open` one and keep it for a whole conversation. Needs the extra `webrtc`."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._loop = asyncio.get_running_loop()
        self._location = ""
        self._state = _State()
        self._ids = count(1)
        self._opened = self._loop.create_future()
        self._pinging: asyncio.Task[None] | None = None
        self._connection: Any = None
        self._control: Any = None
        self._tokens: Any = None
        self.lost = False
        self.drop: Callable[[bytes], bool] | None = None
        """For tests and demonstrations: which packets to lose."""

    async def open(self) -> None:
        """Offer, and wait until both channels can be used. Raises ChatError."""
        aiortc = import_webrtc()
        try:
            said = (await self._http.get("/v1/realtime")).json()
        except (httpx.HTTPError, ValueError) as error:
            raise ChatError(f"the gateway does not say whether it answers calls: {error}") from error
        if not (said.get("webrtc") and said.get("eloquent")):
            raise ChatError(f"the gateway offers no token channel: {said.get('reason', 'it is too old')}")
        servers = [
            aiortc.RTCIceServer(urls=s["urls"], username=s["username"], credential=s["credential"])
            for s in said["ice_servers"]
        ]
        connection = self._connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=servers))
        self._control = connection.createDataChannel(CONTROL)
        self._tokens = connection.createDataChannel(TOKENS, ordered=False, maxRetransmits=0)
        self._control.on("message", self._message)
        self._tokens.on("message", self._packet)
        connection.on("connectionstatechange", self._state_changed)
        await connection.setLocalDescription(await connection.createOffer())
        if sctp_thrift.problem_of(type(connection.sctp)) is None:
            # Acknowledges packets as browsers do, which spares the gateway.
            sctp_thrift.economise(connection.sctp, self._loop)
        headers = {"content-type": "application/sdp"}
        try:
            answer = await self._http.post(
                "/v1/realtime/calls", content=connection.localDescription.sdp.encode(), headers=headers
            )
        except httpx.HTTPError as error:
            raise ChatError(f"the offer was not answered: {error}") from error
        if answer.status_code != 201:
            raise ChatError(f"the offer was refused: {answer.text[:200]}")
        self._location = answer.headers["location"]
        await connection.setRemoteDescription(aiortc.RTCSessionDescription(sdp=answer.text, type="answer"))
        try:
            await asyncio.wait_for(self._opened, _OPEN_SECONDS)
        except TimeoutError as error:
            raise ChatError("the data channel did not open") from error
        self._pinging = self._loop.create_task(self._ping())

    def follow(self, stream_id: str, after: int, deliver: Deliver, over: Over) -> Followed:
        """Have the gateway send a stream here, from the event behind `after` on."""
        followed = Followed(stream_id, after, deliver, over, self._loop.time())
        event_id = f"c{next(self._ids)}"
        self._state.asked[event_id] = followed
        self._send(
            {"type": "stream.follow", "event_id": event_id, "stream_id": stream_id, "starting_after": after}
        )
        return followed

    def unfollow(self, followed: Followed) -> None:
        """Not here any more; `over` is not called."""
        if not followed.closed:
            followed.closed = True
            if followed.timer is not None:
                followed.timer.cancel()
            self._unfollow(followed)
        self._forget(followed)

    async def close(self) -> None:
        """Hang up."""
        self.lost = True
        if self._pinging is not None:
            self._pinging.cancel()
            await asyncio.gather(self._pinging, return_exceptions=True)
        if self._location:
            with contextlib.suppress(httpx.HTTPError):
                await self._http.delete(self._location)
        if self._connection is not None:
            with contextlib.suppress(ConnectionError):
                await self._connection.close()

    def _send(self, message: dict[str, Any]) -> None:
        if self._control.readyState == "open":
            self._control.send(orjson.dumps(message).decode())

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(_PING_SECONDS)
            self._send({"type": "session.ping"})

    def _state_changed(self) -> None:
        if self._connection.connectionState in ("failed", "closed") and not self.lost:
            self.lost = True
            state, self._state = self._state, _State()
            for followed in (*state.asked.values(), *state.handles.values()):
                followed.finish("the data channel was lost")

    def _message(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._packet(message)
            return
        said = orjson.loads(message)
        asked = self._state.asked.get(said.get("client_event_id") or "")
        followed = self._state.handles.get(said.get("handle", 0))
        match said["type"]:
            case "session.created":
                if not self._opened.done():
                    self._opened.set_result(None)
            case "stream.following" if asked is not None:
                self._following(asked, said)
            case "error" if asked is not None:
                self._forget(asked)
                asked.finish(said["error"]["message"])
            case "stream.event" if followed is not None:
                followed.heard = self._loop.time()
                followed.deliver(said["number"], said["event"].removeprefix("data: ").strip().encode())
            case "stream.fallback" if followed is not None:
                self._forget(followed)
                followed.finish(f"the gateway gave the channel up: {said['reason']}")
            case "response.done" if followed is not None:
                self._forget(followed)
                followed.finish(None)

    def _following(self, followed: Followed, said: dict[str, Any]) -> None:
        state = self._state
        del state.asked[said["client_event_id"]]
        handle = followed.handle = said["handle"]
        if followed.closed:
            self._unfollow(followed)
            return
        state.handles[handle] = followed
        if said["transport"] == "eloquent":
            followed.reassembler = Reassembler(handle, after=followed.after)
            early, state.early = state.early, []
            for number, packet in early:
                if number == handle:
                    self._packet(packet)

    def _unfollow(self, followed: Followed) -> None:
        self._send({"type": "stream.unfollow", "stream_id": followed.stream_id, "handle": followed.handle})

    def _forget(self, followed: Followed) -> None:
        state = self._state
        state.asked = {name: other for name, other in state.asked.items() if other is not followed}
        state.handles = {handle: other for handle, other in state.handles.items() if other is not followed}

    def _packet(self, packet: str | bytes) -> None:
        if not isinstance(packet, bytes) or (self.drop is not None and self.drop(packet)):
            return
        try:
            handle = handle_of(packet)
            followed = self._state.handles.get(handle)
            if followed is None or followed.reassembler is None:
                if len(self._state.early) < _EARLY_PACKETS:
                    self._state.early.append((handle, packet))
                return
            now = followed.heard = self._loop.time()
            reassembler = followed.reassembler
            before = reassembler.next
            records = reassembler.receive(packet, now)
        except PacketError:
            return
        for number, record in enumerate(records, before):
            followed.deliver(number, expand(record, reassembler.template))
        self._acknowledge(followed)
        if reassembler.done:
            followed.finish(None)

    def _acknowledge(self, followed: Followed) -> None:
        reassembler = followed.reassembler
        if reassembler is None:
            return
        if followed.timer is not None:
            followed.timer.cancel()
            followed.timer = None
        now = self._loop.time()
        ack = reassembler.next_ack(now)
        if ack is not None and self._tokens.readyState == "open":
            self._tokens.send(ack)
        if (due := reassembler.next_time) is not None and not followed.closed:
            followed.timer = self._loop.call_at(due, self._acknowledge, followed)
