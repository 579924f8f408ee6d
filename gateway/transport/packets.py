"""The Eloquent packets, version 1: what is on the wire, and nothing about when.

`docs/eloquent.md` has the byte table. Encoding is canonical: what `decode` takes, `encode` gives back bit for
bit. Numbers are unsigned LEB128 below 2**32 in their shortest form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.transport.records import MAX_FORMS, MAX_TEMPLATE_BYTES, Form, Kind, Record

VERSION = 1
_DATA = VERSION << 4 | 0
_ACK = VERSION << 4 | 1
_FORMS, _ACK_NOW = 1, 2
_CHOICE = 0x20
_MAX_NUMBER = 2**32 - 1

MAX_PACKET_BYTES = 1_100
"""One SCTP chunk on any path that takes packets of 1,280 bytes: it arrives whole or not at all."""
MAX_RELIABLE_BYTES = 60_000
"""A packet on the reliable channel; peers accept 65,536 unless they say otherwise (RFC 8841 section 6)."""
MAX_RANGES = 32

Run = tuple[int, tuple[Record, ...]]
"""Records with consecutive numbers, and the number of the first."""


class PacketError(ValueError):
    """A peer's packet is malformed. It is the only error that decoding raises."""


@dataclass(frozen=True, slots=True)
class DataPacket:
    """Records from the sender. `number` counts packets, not records."""

    stream: int
    number: int
    runs: tuple[Run, ...] = ()
    first_form: int = 0
    forms: tuple[Form, ...] = ()
    ack_now: bool = False

    def encode(self) -> bytes:
        """The packet's bytes."""
        out = data_head(self.stream, self.number, self.first_form, self.forms, ack_now=self.ack_now)
        for first, records in self.runs:
            put_run(out, first, [encode_record(record) for record in records])
        return bytes(out)


@dataclass(frozen=True, slots=True)
class AckPacket:
    """What a receiver has. All records below `next` arrived, and those in `ranges` (first, end exclusive)."""

    stream: int
    echo: int
    """Highest packet number received."""
    delay_ms: int
    """How long ago it was received when this was sent."""
    received: int
    """Distinct packets received so far; with `echo` it gives the loss."""
    forms: int
    """Forms known."""
    next: int
    ranges: tuple[tuple[int, int], ...] = ()

    def encode(self) -> bytes:
        """The packet's bytes."""
        out = bytearray((_ACK,))
        for value in (self.stream, self.echo, self.delay_ms, self.received, self.forms, self.next):
            _put(out, value)
        end = self.next
        for first, last in self.ranges:
            _put(out, first - end)
            _put(out, last - first)
            end = last
        return bytes(out)


def decode(packet: bytes) -> DataPacket | AckPacket:
    """The packet in `packet`. Raises PacketError and nothing else, whatever the bytes."""
    if not packet:
        raise PacketError("the packet is empty")
    if packet[0] >> 4 != VERSION:
        raise PacketError(f"packet version {packet[0] >> 4} is not {VERSION}")
    if len(packet) > MAX_RELIABLE_BYTES:
        raise PacketError(f"the packet has {len(packet)} bytes, more than {MAX_RELIABLE_BYTES}")
    if packet[0] == _DATA:
        return _decode_data(packet)
    if packet[0] == _ACK:
        return _decode_ack(packet)
    raise PacketError(f"packet type {packet[0] & 15} is unknown")


def data_head(
    stream: int, number: int, first_form: int = 0, forms: Sequence[Form] = (), *, ack_now: bool = False
) -> bytearray:
    """A data packet without records, for `put_run` to extend."""
    out = bytearray((_DATA, (_FORMS if forms else 0) | (_ACK_NOW if ack_now else 0)))
    _put(out, stream)
    _put(out, number)
    if forms:
        _put(out, first_form)
        _put(out, len(forms))
        for form in forms:
            for part in (form.prefix, form.middle, form.suffix):
                _put(out, len(part))
                out += part
    return out


def put_run(out: bytearray, first: int, records: Sequence[bytes]) -> None:
    """Append records, each as `encode_record` gave it, the first of them with number `first`."""
    _put(out, first)
    _put(out, len(records))
    for record in records:
        out += record


def encode_record(record: Record) -> bytes:
    """The record as it stands in a packet: kind byte, choice if not 0, length, payload."""
    out = bytearray((record.kind | record.form << 3 | (_CHOICE if record.choice else 0),))
    if record.choice:
        _put(out, record.choice)
    _put(out, len(record.payload))
    out += record.payload
    return bytes(out)


def _put(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


class _Reader:
    __slots__ = ("at", "packet")

    def __init__(self, packet: bytes, at: int) -> None:
        self.packet = packet
        self.at = at

    @property
    def more(self) -> bool:
        return self.at < len(self.packet)

    def byte(self) -> int:
        if not self.more:
            raise PacketError("the packet is cut off")
        self.at += 1
        return self.packet[self.at - 1]

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > _MAX_NUMBER or (byte == 0 and shift):
                    raise PacketError("a number is not in its shortest form below 2**32")
                return value
            shift += 7
            if shift > 28:
                raise PacketError("a number is not in its shortest form below 2**32")

    def text(self) -> bytes:
        """Length and so many bytes of UTF-8."""
        end = self.number() + self.at
        if end > len(self.packet):
            raise PacketError("the packet is cut off")
        piece = self.packet[self.at : end]
        self.at = end
        try:
            piece.decode()
        except UnicodeDecodeError as error:
            raise PacketError("a form or a record is not UTF-8") from error
        return piece


def _decode_data(packet: bytes) -> DataPacket:
    reader = _Reader(packet, 1)
    flags = reader.byte()
    if flags & ~(_FORMS | _ACK_NOW):
        raise PacketError(f"flags {flags:#04x} are unknown")
    stream, number = reader.number(), reader.number()
    first_form, forms = _forms(reader) if flags & _FORMS else (0, ())
    runs: list[Run] = []
    above = 0
    while reader.more:
        first, count = reader.number(), reader.number()
        if first <= above or not count or first + count > _MAX_NUMBER:
            raise PacketError(f"records {first}, {count} of them, do not follow {above}")
        if count > len(packet) - reader.at:
            raise PacketError("the packet is cut off")
        runs.append((first, tuple(_record(reader) for _ in range(count))))
        above = first + count
    return DataPacket(stream, number, tuple(runs), first_form, forms, bool(flags & _ACK_NOW))


def _forms(reader: _Reader) -> tuple[int, tuple[Form, ...]]:
    first, count = reader.number(), reader.number()
    if not count or first + count > MAX_FORMS:
        raise PacketError(f"{count} forms from {first} on: a stream has up to {MAX_FORMS}")
    forms = tuple(Form(reader.text(), reader.text(), reader.text()) for _ in range(count))
    if sum(map(len, forms)) > MAX_TEMPLATE_BYTES:
        raise PacketError(f"the forms are longer than {MAX_TEMPLATE_BYTES} bytes")
    return first, forms


def _record(reader: _Reader) -> Record:
    head = reader.byte()
    kind, form = head & 7, head >> 3 & 3
    if head & 0xC0 or kind > Kind.END or (kind != Kind.TEXT and head & 0xF8):
        raise PacketError(f"record kind {head:#04x} is unknown")
    choice = reader.number() if head & _CHOICE else 0
    if head & _CHOICE and not 0 < choice <= 0xFFFF:
        raise PacketError(f"choice index {choice} is not between 1 and 65535")
    payload = reader.text()
    if kind == Kind.END and payload:
        raise PacketError("an end record has a payload")
    return Record(Kind(kind), payload, form, choice)


def _decode_ack(packet: bytes) -> AckPacket:
    reader = _Reader(packet, 1)
    stream, echo, delay_ms, received, forms, following = (reader.number() for _ in range(6))
    if forms > MAX_FORMS:
        raise PacketError(f"{forms} forms are known: a stream has up to {MAX_FORMS}")
    if not following:
        raise PacketError("records count from 1")
    ranges: list[tuple[int, int]] = []
    end = following
    while reader.more:
        gap, length = reader.number(), reader.number()
        if not gap or not length or end + gap + length > _MAX_NUMBER:
            raise PacketError(f"range of {length} after a gap of {gap} is no range")
        if len(ranges) == MAX_RANGES:
            raise PacketError(f"more than {MAX_RANGES} ranges")
        ranges.append((end + gap, end + gap + length))
        end += gap + length
    return AckPacket(stream, echo, delay_ms, received, forms, following, tuple(ranges))
