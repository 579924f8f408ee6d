"""The sending half of Eloquent: every packet carries, with the new records, those not yet acknowledged.

Whatever packet arrives first then completes what its forerunners lost. No sockets and no clock in here: push
records, feed acknowledgements, and ask for a packet when the path is ready for one. A packet is built no
earlier than that, so none waits in a queue with records that have been acknowledged meanwhile.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Literal

from gateway.transport.pacing import Pacing, RoundTrip
from gateway.transport.packets import (
    MAX_PACKET_BYTES,
    MAX_RELIABLE_BYTES,
    AckPacket,
    PacketError,
    data_head,
    decode,
    encode_record,
    put_run,
)
from gateway.transport.records import MAX_TEMPLATE_BYTES, Record, Template
from gateway.transport.selection import RUN_BYTES, Pending, Select, lost_first

_HEAD_BYTES = 12
_BURST = 4
"""Packets that may leave at once when more was written than one can hold."""
_SENT_TIMES = 512
"""Packets whose time of sending is kept, for round-trip times."""


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """How much a sender holds and when it gives up; seconds and bytes."""

    pacing: Pacing = field(default_factory=Pacing)
    packet_bytes: int = MAX_PACKET_BYTES
    overdue_seconds: float = 2.0
    """Overdue bytes may exceed a packet's for so long while anything is acknowledged."""
    silent_seconds: float = 15.0
    """Nothing at all was acknowledged for so long. A client reads elsewhere much sooner, and is back at once
    if this path works first."""
    backlog_bytes: int = 256 * 1024
    """Most that is kept unacknowledged."""
    select: Select = lost_first

    def __post_init__(self) -> None:
        if self.packet_bytes < 2 * MAX_TEMPLATE_BYTES:
            raise ValueError(
                f"packet_bytes must be at least {2 * MAX_TEMPLATE_BYTES}, got {self.packet_bytes}"
            )
        if min(self.overdue_seconds, self.silent_seconds, self.backlog_bytes) <= 0:
            raise ValueError("limits must be positive")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A packet to send now."""

    data: bytes
    reliable: bool = False
    """It is too long for a datagram: send it on the reliable channel."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """This path cannot carry the stream; another has to go on after record `starting_after`."""

    reason: Literal["overdue", "silent", "backlog", "oversize"]
    starting_after: int


@dataclass(slots=True)
class SenderCounts:
    """What a sender did; for metrics."""

    packets: int = 0
    repeats: int = 0
    """Packets without a new record."""
    bytes: int = 0
    reliable: int = 0
    acks: int = 0
    forged: int = 0
    """Acknowledgements of what was never sent, or of another stream: ignored."""


class Packetizer:
    """One stream over one path. `template` is the one that `compact` filled for the pushed records."""

    def __init__(
        self,
        stream: int,
        template: Template,
        now: float,
        *,
        after: int = 0,
        settings: SenderSettings | None = None,
    ) -> None:
        self.stream = stream
        self.counts = SenderCounts()
        self.fallback: Fallback | None = None
        self.busy = 0.0
        """How busy the sender's process is, 0 to 1: whoever drives this may say."""
        self._template = template
        self._settings = settings or SenderSettings()
        self._pacing = self._settings.pacing
        self.rtt = RoundTrip(self._pacing.initial_rtt)
        self._next = after + 1
        """Number of the next record to be pushed."""
        self._acked = after
        """All records up to this one were acknowledged."""
        self._sent = after
        """Highest record number that was in a packet."""
        self._final = 0
        """Number of the final record once it was pushed."""
        self._pending: OrderedDict[int, Pending] = OrderedDict()
        self._pending_bytes = 0
        self._long: deque[Pending] = deque()
        """Records for the reliable channel that have not been sent."""
        self._long_unacked: set[int] = set()
        self._unsent = 0
        self._forms_acked = self._forms_sent = 0
        self._packet = 0
        """Number of the last packet."""
        self._sent_at: OrderedDict[int, float] = OrderedDict()
        self._echoed = 0
        self._lost = 0
        """Packets up to `_echoed` that had not arrived by then."""
        self._lossy_until = now
        self._burst = 0
        self._allowed = now
        """No packet before this."""
        self._repeat_at = now
        self._copies = 0
        self._repeat_wait = 0.0
        self._last_packet = now
        self._heard = now
        """Last acknowledgement, or the time at which one began to be owed."""
        self._over_since: float | None = None

    @property
    def done(self) -> bool:
        """The final record and all before it were acknowledged."""
        return self._final > 0 and self._acked >= self._final

    @property
    def acked(self) -> int:
        """All records up to this number have arrived."""
        return self._acked

    @property
    def ready_at(self) -> float:
        """No packet leaves before this time, whatever is pushed until then."""
        return self._allowed

    @property
    def unacked_bytes(self) -> int:
        """Encoded records that are kept for repetition."""
        return self._pending_bytes

    def push(self, record: Record, now: float) -> int:
        """Take the stream's next record; its number. Nothing may follow a final one."""
        if self._final:
            raise ValueError(f"record {self._final} was the stream's last")
        number = self._next
        self._next += 1
        if record.final:
            self._final = number
        if self.fallback:
            return number
        if not self._pending and not self._long_unacked:
            self._heard = now
        pending = Pending(number, encode_record(record))
        if len(pending.data) > MAX_RELIABLE_BYTES - MAX_TEMPLATE_BYTES - 2 * _HEAD_BYTES:
            self._give_up("oversize")
        elif len(pending.data) > self._inline_limit():
            self._long.append(pending)
            self._long_unacked.add(number)
        else:
            self._pending[number] = pending
            self._unsent += 1
        self._pending_bytes += len(pending.data)
        if self._pending_bytes > self._settings.backlog_bytes:
            self._give_up("backlog")
        return number

    def next_packet(self, now: float) -> Outgoing | None:
        """The packet to send now, or None. Call it until it gives None, and again at `next_time`."""
        self._watch(now)
        if self.fallback or self.done:
            return None
        if self._long:
            return self._long_packet(now)
        if now < self._allowed:
            return None
        fresh = self._unsent > 0
        repeat = bool(self._pending) and (now >= self._repeat_at or self._burst > 0)
        if not fresh and not repeat and now < self._last_packet + self._pacing.idle:
            return None
        return self._packet_of(self._chosen(now), now, fresh=fresh)

    def next_time(self, now: float) -> float | None:
        """When `next_packet` should be called if nothing is pushed or acknowledged before; None: never."""
        if self.fallback or self.done:
            return None
        if self._long:
            return now
        times = [self._last_packet + self._pacing.idle]
        if self._unsent:
            times.append(self._allowed)
        elif self._pending:
            times.append(max(self._allowed, self._repeat_at))
        if self._pending or self._long_unacked:
            times.append(self._heard + self._settings.silent_seconds)
        if self._over_since is not None:
            times.append(self._over_since + self._settings.overdue_seconds)
        return max(now, min(times))

    def acknowledge(self, packet: bytes | AckPacket, now: float) -> None:
        """Take a peer's acknowledgement; raises PacketError if it is none. A forged one is only counted."""
        ack = packet if isinstance(packet, AckPacket) else decode(packet)
        if not isinstance(ack, AckPacket):
            raise PacketError("a receiver sends acknowledgements only")
        covered = self._covered(ack)
        if covered is None:
            self.counts.forged += 1
            return
        self.counts.acks += 1
        self._heard = now
        self._forms_acked = max(self._forms_acked, ack.forms)
        if ack.echo > self._echoed:
            self._echoed = ack.echo
            self._measure(ack, now)
            if ack.echo - ack.received > self._lost:
                self._lossy_until = now + self._pacing.loss_memory
            self._lost = ack.echo - ack.received
        for number in covered:
            self._pending_bytes -= len(self._pending.pop(number).data)
        found_lost = False
        for record in self._pending.values():
            if 0 < record.packet <= ack.echo and record.last_sent > -math.inf:
                record.last_sent = -math.inf
                found_lost = True
        if found_lost or covered or ack.next - 1 > self._acked:
            self._long_unacked = {n for n in self._long_unacked if n >= ack.next}
            self._acked = max(self._acked, ack.next - 1)
            self._repeat_wait = 0.0
            self._schedule_repeat(now, self._last_packet, lossy=self.lossy(now))

    def _inline_limit(self) -> int:
        forms = MAX_TEMPLATE_BYTES if self._forms_acked < len(self._template.forms) else 0
        return self._settings.packet_bytes - _HEAD_BYTES - RUN_BYTES - forms

    def _lost_before(self, now: float) -> float:
        """What was last sent before this should have been acknowledged by now."""
        return now - self.rtt.patience - self._pacing.ack_delay

    def lossy(self, now: float) -> bool:
        """Were packets lost lately, or is an acknowledgement overdue?"""
        return now < self._lossy_until or self._overdue(now)

    def _overdue(self, now: float) -> bool:
        return bool(self._pending) and self._oldest_sent(now) < self._lost_before(now)

    def _interval(self, *, lossy: bool) -> float:
        pacing = self._pacing
        if lossy:
            return pacing.interval
        calm = pacing.calm_interval + self.busy * (pacing.busy_interval - pacing.calm_interval)
        return max(pacing.interval, calm, self.rtt.smoothed * pacing.rtt_share)

    def _chosen(self, now: float) -> list[Pending]:
        if not self._pending:
            return []
        room = self._settings.packet_bytes - _HEAD_BYTES - self._forms_bytes()
        if self._pending_bytes + RUN_BYTES * len(self._pending) <= room:
            return list(self._pending.values())
        return self._settings.select(list(self._pending.values()), room, self._lost_before(now))

    def _more_owed(self, now: float) -> bool:
        """May another packet follow with records that this one did not hold, all of them sent before?"""
        if self._burst + 1 < self._pacing.lossy_burst and self.lossy(now):
            return True
        limit = self._lost_before(now)
        return any(r.first_sent >= 0 and r.last_sent < limit for r in self._pending.values())

    def _forms_bytes(self) -> int:
        return sum(len(form) + 6 for form in self._template.forms[self._forms_acked :]) + 2

    def _packet_of(self, records: list[Pending], now: float, *, fresh: bool) -> Outgoing:
        overdue = self._overdue(now)
        lossy = overdue or now < self._lossy_until
        ack_now = (
            overdue or not records or self._packet == 0 or bool(self._final and self._final <= self._sent)
        )
        out = self._head(ack_now=ack_now)
        run: list[bytes] = []
        first = 0
        for record in records:
            if run and record.number != first + len(run):
                put_run(out, first, run)
                run = []
            if not run:
                first = record.number
            run.append(record.data)
            if record.first_sent < 0:
                record.first_sent = now
                self._unsent -= 1
            record.last_sent = now
            record.packet = self._packet
            self._sent = max(self._sent, record.number)
        if run:
            put_run(out, first, run)
        self._sent_at[self._packet] = now
        if len(self._sent_at) > _SENT_TIMES:
            self._sent_at.popitem(last=False)
        self._last_packet = now
        more = self._unsent > 0 or (len(records) < len(self._pending) and self._more_owed(now))
        self._burst = self._burst + 1 if more and self._burst + 1 < _BURST else 0
        self._allowed = now if self._burst else now + self._interval(lossy=lossy)
        if fresh:
            self._copies = 0
            self._repeat_wait = 0.0 if not overdue else self._repeat_wait
        else:
            self._copies += 1
            self.counts.repeats += 1
        self._schedule_repeat(now, now, lossy=lossy)
        return self._out(out, reliable=False)

    def _long_packet(self, now: float) -> Outgoing:
        record = self._long.popleft()
        out = self._head(ack_now=True)
        put_run(out, record.number, [record.data])
        self._sent = max(self._sent, record.number)
        self._last_packet = now
        self._pending_bytes -= len(record.data)
        self.counts.reliable += 1
        return self._out(out, reliable=True)

    def _head(self, *, ack_now: bool) -> bytearray:
        self._packet += 1
        forms = self._template.forms[self._forms_acked :]
        self._forms_sent = len(self._template.forms)
        return data_head(self.stream, self._packet, self._forms_acked if forms else 0, forms, ack_now=ack_now)

    def _out(self, packet: bytearray, *, reliable: bool) -> Outgoing:
        self.counts.packets += 1
        self.counts.bytes += len(packet)
        return Outgoing(bytes(packet), reliable)

    def _oldest_sent(self, now: float) -> float:
        oldest = next(iter(self._pending.values()))
        return oldest.first_sent if oldest.first_sent >= 0 else now

    def _schedule_repeat(self, now: float, last: float, *, lossy: bool) -> None:
        """Plan the next packet without news: an early copy, or once the oldest record is overdue."""
        if not self._pending:
            return
        interval = self._interval(lossy=lossy)
        if self._copies < self._pacing.early_copies and lossy:
            self._repeat_at = last + interval
            return
        wait = max(self._repeat_wait, interval)
        due = self._oldest_sent(now) + self.rtt.patience + self._pacing.ack_delay
        if due <= now:
            self._repeat_wait = min(wait * self._pacing.repeat_growth, max(self._pacing.longest_repeat, wait))
        self._repeat_at = max(due, last + wait)

    def _measure(self, ack: AckPacket, now: float) -> None:
        sent = self._sent_at.get(ack.echo)
        if sent is None:
            return
        while self._sent_at and next(iter(self._sent_at)) <= ack.echo:
            self._sent_at.popitem(last=False)
        elapsed = now - sent
        held = ack.delay_ms / 1000
        self.rtt.add(elapsed - held if held < elapsed else elapsed)

    def _covered(self, ack: AckPacket) -> list[int] | None:
        """Numbers of pending records that `ack` covers; None if it covers anything that was never sent."""
        end = ack.ranges[-1][1] if ack.ranges else ack.next
        if (
            ack.stream != self.stream
            or end > self._sent + 1
            or not ack.received <= ack.echo <= self._packet
            or ack.forms > self._forms_sent
            or (self._long and self._long[0].number < ack.next)
        ):
            return None
        covered: list[int] = []
        for number in self._pending:
            if number >= ack.next:
                break
            covered.append(number)
        for first, last in ack.ranges:
            covered.extend(number for number in range(first, last) if number in self._pending)
        return covered if all(self._pending[number].first_sent >= 0 for number in covered) else None

    def _watch(self, now: float) -> None:
        """Decide whether this path still serves."""
        if self.fallback or not (self._pending or self._long_unacked):
            self._over_since = None
            return
        if now - self._heard > self._settings.silent_seconds:
            self._give_up("silent")
            return
        silent = now - self._heard > self._settings.overdue_seconds
        if silent or self._pending_bytes <= self._settings.packet_bytes or not self._overdue_bytes(now):
            self._over_since = None
        elif self._over_since is None:
            self._over_since = now
        elif now - self._over_since > self._settings.overdue_seconds:
            self._give_up("overdue")

    def _overdue_bytes(self, now: float) -> bool:
        limit, total = self._lost_before(now), 0
        for record in self._pending.values():
            if not 0 <= record.first_sent < limit:
                break
            total += len(record.data)
            if total > self._settings.packet_bytes:
                return True
        return False

    def _give_up(self, reason: Literal["overdue", "silent", "backlog", "oversize"]) -> None:
        if self.fallback is None:
            self.fallback = Fallback(reason, self._acked)
            self._pending.clear()
            self._long.clear()
            self._long_unacked.clear()
            self._pending_bytes = self._unsent = 0
