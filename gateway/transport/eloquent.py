"""Eloquent (arXiv 2401.12961): every packet carries all records that are not yet acknowledged.

A lost packet then delays nothing beyond the next one that arrives, whatever the round-trip time. This module
is what a driver imports. The wire is in `packets`, the meaning of a record in `records`, and both are told in
`docs/eloquent.md`.

    sender                                        receiver
    number = packetizer.push(record, now)         for record in reassembler.receive(data, now): ...
    packetizer.next_packet(now)                   reassembler.next_ack(now)
    packetizer.acknowledge(data, now)             reassembler.next_time
    packetizer.next_time(now)

A driver calls `next_packet` only when its path has nothing queued, and when `fallback` is set goes on
elsewhere after the record that it names.
"""

from __future__ import annotations

from gateway.transport.pacing import Pacing
from gateway.transport.packetizer import Fallback, Outgoing, Packetizer, SenderCounts, SenderSettings
from gateway.transport.packets import (
    MAX_PACKET_BYTES,
    MAX_RELIABLE_BYTES,
    VERSION,
    AckPacket,
    DataPacket,
    PacketError,
    decode,
)
from gateway.transport.reassembler import Reassembler, ReceiverCounts, ReceiverSettings
from gateway.transport.records import DONE, END, Form, Kind, Record, Template, compact, expand

__all__ = [
    "DONE",
    "END",
    "MAX_PACKET_BYTES",
    "MAX_RELIABLE_BYTES",
    "VERSION",
    "AckPacket",
    "DataPacket",
    "Fallback",
    "Form",
    "Kind",
    "Outgoing",
    "Packetizer",
    "PacketError",
    "Pacing",
    "Reassembler",
    "ReceiverCounts",
    "ReceiverSettings",
    "Record",
    "SenderCounts",
    "SenderSettings",
    "Template",
    "compact",
    "decode",
    "expand",
]
