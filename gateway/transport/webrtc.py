"""One WebRTC peer by aiortc: an offer answered, and its two data channels as callbacks and a datagram path.

This is the only module of the gateway that imports aiortc; `lines` imports it at the first need, in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Callable
from typing import Any

from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription, rtcsctptransport

from gateway.transport import ice_ports, sctp_repair, sctp_thrift
from gateway.transport.call import CONTROL, TOKENS
from gateway.transport.settings import RealtimeSettings
from gateway.transport.signalling import advertised, invalid_sdp

for _name in ("aioice", "aiortc"):
    # They tell of every candidate pair, for every call.
    logging.getLogger(_name).setLevel(logging.WARNING)

NO_REPAIR = sctp_repair.problem_of(
    rtcsctptransport.RTCSctpTransport, inspect.getsource(rtcsctptransport.RTCSctpTransport)
)
"""Why SCTP's timers cannot be repaired in this version of aiortc; None if they can."""
NO_THRIFT = sctp_thrift.problem_of(rtcsctptransport.RTCSctpTransport)
"""Why SCTP cannot be had cheaper in this version of aiortc; None if it can."""
_PACKET_BYTES: int = rtcsctptransport.USERDATA_MAX_LENGTH


class Peer:
    """Create inside the running loop, `answer`, and `close`. Callbacks are set before `answer`."""

    def __init__(self, settings: RealtimeSettings) -> None:
        servers = [
            RTCIceServer(urls=s.url, username=s.username or None, credential=s.credential or None)
            for s in settings.ice_servers
        ]
        self._settings = settings
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._control: Any = None
        self._tokens: Any = None
        self._association: Any = None
        self.on_open: Callable[[], None] = _ignore
        """The control channel is open."""
        self.on_text: Callable[[str], None] = _ignore
        """A control message came."""
        self.on_packet: Callable[[bytes], None] = _ignore
        """A binary message came, on either channel."""
        self.on_lost: Callable[[], None] = _ignore
        """The peer is gone, or never came."""
        self._connection.on("datachannel", self._channel_came)
        self._connection.on("connectionstatechange", self._state_changed)

    async def answer(self, offer: str) -> str:
        """The SDP answer, with every candidate of this end. Raises InvalidRequest."""
        connection = self._connection
        try:
            await connection.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
        except Exception as error:
            # Its parser has no error of its own: ValueError, AssertionError, KeyError, IndexError and others.
            raise invalid_sdp(f"{type(error).__name__} {error}"[:200]) from error
        self._association = connection.sctp
        if NO_REPAIR is None:
            sctp_repair.repair(self._association, _PACKET_BYTES)
        if NO_THRIFT is None:
            sctp_thrift.economise(self._association, asyncio.get_running_loop())
        if (ports := self._settings.port_range) is not None:
            ice_ports.bind_within(self._association.transport.transport.iceGatherer._connection, ports)
        try:
            await connection.setLocalDescription(await connection.createAnswer())
        except Exception as error:
            raise invalid_sdp(f"{type(error).__name__} {error}"[:200]) from error
        sdp: str = connection.localDescription.sdp
        address = self._settings.advertised_address
        return advertised(sdp, address) if address else sdp

    @property
    def has_tokens(self) -> bool:
        """Is there an open channel for packets?"""
        return self._tokens is not None and self._tokens.readyState == "open"

    @property
    def control_queued(self) -> int:
        """Bytes of control messages that have not left."""
        return 0 if self._control is None else int(self._control.bufferedAmount)

    def send_text(self, text: str) -> None:
        """A control message; dropped if the channel is closed."""
        if self._control is not None and self._control.readyState == "open":
            self._control.send(text)

    # path.DatagramPath

    @property
    def queued(self) -> int:
        return int(self._tokens.bufferedAmount) + len(self._association._outbound_queue)

    def send(self, packet: bytes) -> None:
        if self.has_tokens:
            self._tokens.send(packet)

    def send_reliable(self, packet: bytes) -> None:
        if self._control is not None and self._control.readyState == "open":
            self._control.send(packet)

    async def close(self) -> None:
        """Hang up; `on_lost` is not called."""
        self.on_lost = _ignore
        with contextlib.suppress(ConnectionError):
            await self._connection.close()

    # aiortc's events

    def _channel_came(self, channel: Any) -> None:
        if channel.label == CONTROL and self._control is None:
            self._control = channel
            channel.on("message", self._control_message)
            self.on_open()
        elif channel.label == TOKENS and self._tokens is None:
            self._tokens = channel
            channel.on("message", self._token_message)
        else:
            channel.close()

    def _control_message(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.on_text(message)
        else:
            self.on_packet(message)

    def _token_message(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.on_packet(message)

    def _state_changed(self) -> None:
        if self._connection.connectionState in ("failed", "closed"):
            self.on_lost()


def _ignore(*_: object) -> None:
    """Nobody listens."""
