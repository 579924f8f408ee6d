"""Drives one stream over one datagram path: from a reader's events to packets, and from acks to "delivered".

Work is done per packet, not per event: while a packet may not go yet, news is only noted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from gateway.errors import GatewayError
from gateway.transport.counts import StreamCounts
from gateway.transport.eloquent import Packetizer, Template, compact
from gateway.transport.path import DatagramPath
from gateway.transport.reader import Reader
from gateway.transport.turns import Turns

_QUEUE_WAIT = 0.005
"""Seconds until a path that has something queued is asked again."""
_AHEAD_BYTES = 32 * 1024
"""No more is taken from the log while so much is not acknowledged: packets are built as late as possible."""

Reason = Literal["overdue", "silent", "backlog", "oversize", "truncated", "unavailable"]


class EloquentSender:
    """Runs from `turn` until it calls `finished`, with None or with why this path cannot carry the stream."""

    def __init__(
        self,
        handle: int,
        reader: Reader,
        path: DatagramPath,
        turns: Turns,
        counts: StreamCounts,
        finished: Callable[[Reason | None], None],
    ) -> None:
        self._reader = reader
        self._path = path
        self._turns = turns
        self._counts = counts
        self._finished = finished
        self._template = Template()
        self._packetizer = Packetizer(handle, self._template, turns.time(), after=reader.after)
        self._due = math.inf
        """When the next turn is wanted, if nothing is told before."""
        self._woken = math.inf
        """When it will be woken next, as far as that is planned; never after `_due`."""
        self._closed = False
        self._final = False
        """The stream's last record was pushed."""
        self._unread = True
        """The reader may have something."""
        self._held_back = False
        """Something was left in the log because so much is not acknowledged."""
        self._bytes = 0
        """Sent since an acknowledgement was counted."""
        reader.listen(self._news)

    def turn(self) -> None:
        """Take what is new, send what may go, and plan the next turn."""
        if self._closed:
            return
        self._due = math.inf
        now = self._turns.time()
        if self._unread and not self._take(now):
            return
        packetizer, path = self._packetizer, self._path
        packetizer.busy = self._turns.busy
        queued = path.queued
        while not queued and (out := packetizer.next_packet(now)) is not None:
            self._bytes += len(out.data)
            self._counts.packets["sent"] += 1
            if out.reliable:
                path.send_reliable(out.data)
            else:
                path.send(out.data)
            queued = path.queued
        if packetizer.fallback is not None:
            self._finish(packetizer.fallback.reason)
        elif packetizer.done:
            self._finish(None)
        elif (due := packetizer.next_time(now)) is not None:
            self._plan(max(due, now + _QUEUE_WAIT) if queued else due)

    def acknowledge(self, packet: bytes) -> None:
        """Take the peer's packet. Raises PacketError."""
        if self._closed:
            return
        packetizer = self._packetizer
        before, forged = packetizer.acked, packetizer.counts.forged
        now = self._turns.time()
        packetizer.acknowledge(packet, now)
        self._counts.packets["forged" if packetizer.counts.forged > forged else "ack"] += 1
        if packetizer.acked > before:
            sent, self._bytes = self._bytes, 0
            self._reader.delivered(before, packetizer.acked, sent)
        if packetizer.done or (self._held_back and packetizer.unacked_bytes < _AHEAD_BYTES):
            self.turn()
        elif (due := packetizer.next_time(now)) is not None and due < self._due:
            # It told of a loss: what was lost goes out before anything else would have.
            self._plan(due)

    def close(self) -> None:
        """Stop without a word."""
        self._closed = True

    def _news(self) -> None:
        self._unread = True
        ready = self._packetizer.ready_at
        if self._closed or self._turns.time() >= ready:
            self.turn()
        elif self._due > ready:
            # Everything new is taken at once, when the next packet may leave.
            self._plan(ready)

    def _plan(self, due: float) -> None:
        self._due = due
        if due < self._woken:
            self._woken = due
            self._turns.at(due, self._wake)

    def _wake(self, at: float) -> None:
        if at < self._woken or self._closed:
            return  # planned before an earlier turn was wanted, which has been since
        self._woken = math.inf
        if at >= self._due:
            self.turn()
        elif self._due < math.inf:
            self._plan(self._due)

    def _take(self, now: float) -> bool:
        """Push what the log has; False if that ended it all."""
        packetizer = self._packetizer
        while not self._final and packetizer.unacked_bytes < _AHEAD_BYTES:
            try:
                events = self._reader.take()
            except GatewayError as error:
                self._finish("truncated" if error.code == "stream_truncated" else "unavailable")
                return False
            if not events:
                break
            for event in events:
                if event[:6] != b"data: " or b"\n" in event[6:-2]:
                    self._finish("unavailable")
                    return False
                record = compact(event[6:-2], self._template)
                packetizer.push(record, now)
                if record.final:
                    self._final = True
                    break
        self._held_back = packetizer.unacked_bytes >= _AHEAD_BYTES
        self._unread = not self._reader.at_end and not self._final
        return True

    def _finish(self, reason: Reason | None) -> None:
        self.close()
        self._finished(reason)
