"""The receiving half of Eloquent: records in order as soon as possible, and few acknowledgements, in time."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.transport.packets import MAX_RANGES, AckPacket, DataPacket, PacketError, decode
from gateway.transport.records import Record, Template

_WINDOW = 64
"""Packet numbers below the highest that are still told apart from repeats by the network."""


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """When to acknowledge, and how much may be held back behind a gap."""

    ack_every: int = 4
    """Packets for one acknowledgement."""
    ack_delay: float = 0.080
    """Seconds that a packet waits at most for its acknowledgement."""
    ahead_records: int = 4096
    ahead_bytes: int = 1024 * 1024

    def __post_init__(self) -> None:
        if self.ack_every < 1 or self.ack_delay < 0 or min(self.ahead_records, self.ahead_bytes) < 1:
            raise ValueError("ack_every and the limits must be at least 1, ack_delay at least 0")


@dataclass(slots=True)
class ReceiverCounts:
    """What a receiver saw; for metrics."""

    packets: int = 0
    stray: int = 0
    """Packets of another stream: ignored."""
    duplicates: int = 0
    """Records that were there already."""
    refused: int = 0
    """Records beyond the limits, behind the end, or of an unknown form: not acknowledged."""
    acks: int = 0


class Reassembler:
    """One stream over any number of paths: packets may come late, twice, in any order, or never."""

    def __init__(self, stream: int, *, after: int = 0, settings: ReceiverSettings | None = None) -> None:
        self.stream = stream
        self.template = Template()
        self.counts = ReceiverCounts()
        self.next = after + 1
        """Number of the next record to deliver."""
        self.done = False
        """The final record was delivered."""
        self._settings = settings or ReceiverSettings()
        self._held: dict[int, Record] = {}
        self._held_bytes = 0
        self._echo = 0
        self._echo_at = 0.0
        self._received = 0
        self._seen = 0
        """Bit i: packet `_echo - i` was received."""
        self._owed = 0
        """Packets since the last acknowledgement."""
        self._ack_at: float | None = None

    def receive(self, packet: bytes | DataPacket, now: float) -> list[Record]:
        """The records that `packet` makes deliverable, in order. Raises PacketError if it is malformed."""
        data = packet if isinstance(packet, DataPacket) else decode(packet)
        if not isinstance(data, DataPacket):
            raise PacketError("a sender sends data only")
        if data.stream != self.stream:
            self.counts.stray += 1
            return []
        self.counts.packets += 1
        self._count(data.number, now)
        if data.first_form <= len(self.template.forms):
            self.template.forms.extend(data.forms[len(self.template.forms) - data.first_form :])
        for first, records in data.runs:
            for number, record in enumerate(records, first):
                self._take(number, record)
        ready = self._deliver()
        self._owed += 1
        if data.ack_now or self.done or self._held or self._owed >= self._settings.ack_every:
            self._ack_at = now
        elif self._ack_at is None:
            self._ack_at = now + self._settings.ack_delay
        return ready

    def next_ack(self, now: float) -> bytes | None:
        """The acknowledgement to send now, or None."""
        if self._ack_at is None or now < self._ack_at:
            return None
        self._ack_at = None
        self._owed = 0
        self.counts.acks += 1
        delay = round((now - self._echo_at) * 1000)
        return AckPacket(
            self.stream,
            self._echo,
            delay,
            self._received,
            len(self.template.forms),
            self.next,
            self._ranges(),
        ).encode()

    @property
    def next_time(self) -> float | None:
        """When `next_ack` has something to send, if no packet comes before; None: never."""
        return self._ack_at

    def skip_to(self, following: int) -> list[Record]:
        """Records below `following` came another way; the records that this makes deliverable."""
        while self.next < following and not self.done:
            self._release(self.next)
            self.next += 1
        return self._deliver()

    def _count(self, number: int, now: float) -> None:
        ahead = number - self._echo
        if ahead > 0:
            self._seen = (self._seen << min(ahead, _WINDOW) | 1) & (1 << _WINDOW) - 1
            self._echo, self._echo_at = number, now
        elif -ahead < _WINDOW and not self._seen >> -ahead & 1:
            self._seen |= 1 << -ahead
        else:
            return
        self._received += 1

    def _take(self, number: int, record: Record) -> None:
        if number < self.next or number in self._held:
            self.counts.duplicates += 1
            return
        if (
            self.done
            or number - self.next > self._settings.ahead_records
            or self._held_bytes + len(record.payload) > self._settings.ahead_bytes
            or (record.kind == 0 and record.form >= len(self.template.forms))
        ):
            self.counts.refused += 1
            return
        self._held[number] = record
        self._held_bytes += len(record.payload)

    def _release(self, number: int) -> Record | None:
        record = self._held.pop(number, None)
        if record is not None:
            self._held_bytes -= len(record.payload)
        return record

    def _deliver(self) -> list[Record]:
        ready: list[Record] = []
        while not self.done and (record := self._release(self.next)) is not None:
            ready.append(record)
            self.next += 1
            self.done = record.final
        return ready

    def _ranges(self) -> tuple[tuple[int, int], ...]:
        ranges: list[tuple[int, int]] = []
        for number in sorted(self._held):
            if ranges and ranges[-1][1] == number:
                ranges[-1] = (ranges[-1][0], number + 1)
            elif len(ranges) == MAX_RANGES:
                break
            else:
                ranges.append((number, number + 1))
        return tuple(ranges)
