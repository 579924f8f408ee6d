"""One stream on one call: as Eloquent packets on the token channel, or as messages on the control channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from gateway.errors import GatewayError
from gateway.transport.counts import StreamCounts
from gateway.transport.eloquent_sender import EloquentSender
from gateway.transport.reader import Reader
from gateway.transport.turns import Turns

if TYPE_CHECKING:
    from gateway.transport.call import Line

_QUEUE_BYTES = 128 * 1024
"""Control messages that may wait in the channel; more is read from the log when they have left."""
_QUEUE_WAIT = 0.02


class Tell(Protocol):
    def __call__(self, kind: str, in_answer_to: str | None = None, **fields: object) -> None: ...


class Following:
    """`over` is called once, with None when all was delivered, else with why it cannot go on here."""

    def __init__(
        self,
        handle: int,
        reader: Reader,
        line: Line,
        counts: StreamCounts,
        turns: Turns,
        over: Callable[[Following, str | None], None],
    ) -> None:
        self.handle = handle
        self.stream_id = reader.stream_id
        self._reader = reader
        self._line = line
        self._counts = counts
        self._turns = turns
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._sender: EloquentSender | None = None
        self._tell: Tell
        self._later: asyncio.Handle | None = None
        self._closed = False

    @property
    def status(self) -> str:
        return self._reader.status

    @property
    def last(self) -> int:
        """Number of the last event that was taken."""
        return self._reader.after

    def start(self, tell: Tell, *, packets: bool) -> None:
        self._tell = tell
        if packets:
            self._sender = EloquentSender(
                self.handle, self._reader, self._line, self._turns, self._counts, self._finish
            )
            self._sender.turn()
        else:
            self._reader.listen(self._news)
            self._pump()

    def acknowledge(self, packet: bytes) -> None:
        """Raises PacketError."""
        if self._sender is not None:
            self._sender.acknowledge(packet)

    async def close(self) -> None:
        self._closed = True
        if self._sender is not None:
            self._sender.close()
        if self._later is not None:
            self._later.cancel()
        await self._reader.close()

    def _finish(self, reason: str | None) -> None:
        if not self._closed:
            self._closed = True
            self._over(self, reason)

    def _news(self) -> None:
        if self._later is None:
            self._later = self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._later = None
        reader = self._reader
        while not self._closed:
            if self._line.control_queued > _QUEUE_BYTES:
                self._later = self._loop.call_later(_QUEUE_WAIT, self._pump)
                return
            before = reader.after
            try:
                events = reader.take()
            except GatewayError as error:
                self._finish("truncated" if error.code == "stream_truncated" else "unavailable")
                return
            if not events:
                break
            for number, event in enumerate(events, before + 1):
                text = event.decode(errors="replace")
                self._tell(
                    "stream.event", stream_id=self.stream_id, handle=self.handle, number=number, event=text
                )
            reader.delivered(before, reader.after)
        if reader.status != "running":
            self._finish(None)
