"""Eloquent: decoding is total and canonical, a receiver takes any packet, and chunks come back as sent."""

from __future__ import annotations

from gateway.transport.packets import AckPacket, DataPacket, PacketError, decode
from gateway.transport.reassembler import Reassembler
from gateway.transport.records import Template, compact, expand


def one(data: bytes) -> None:
    try:
        packet = decode(data)
    except PacketError:
        packet = None
    if packet is not None:
        assert packet.encode() == data
    if isinstance(packet, DataPacket):
        _received(packet)
    elif isinstance(packet, AckPacket):
        assert all(first < end for first, end in packet.ranges)
    _chunks(data)


def _received(packet: DataPacket) -> None:
    receiver = Reassembler(packet.stream)
    delivered = receiver.receive(packet, 0.0)
    assert receiver.next == 1 + len(delivered)
    for record in delivered:
        expand(record, receiver.template)
    assert receiver.receive(packet, 0.1) == [], "the same packet delivers nothing twice"


def _chunks(data: bytes) -> None:
    """As events of one stream, divided at zero bytes."""
    template = Template()
    for chunk in data.split(b"\0"):
        told = expand(compact(chunk, template), template)
        assert told == chunk.decode(errors="replace").encode()
