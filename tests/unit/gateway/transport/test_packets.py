from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.transport.packets import MAX_RELIABLE_BYTES, AckPacket, DataPacket, PacketError, decode
from gateway.transport.records import END, Form, Kind, Record

STEADY = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
"""The same examples in every run, however slow the machine."""
NUMBER = st.integers(0, 2**32 - 1)
TEXT = st.text(max_size=20).map(str.encode)
RECORD = st.builds(Record, st.just(Kind.TEXT), TEXT, st.integers(0, 3), st.integers(0, 0xFFFF)) | st.builds(
    Record, st.sampled_from([Kind.JSON, Kind.ERROR]), TEXT
)
FORM = st.builds(Form, TEXT, TEXT, TEXT)


@st.composite
def data_packets(draw: st.DrawFn) -> DataPacket:
    runs = []
    at = 0
    for records in draw(st.lists(st.lists(RECORD | st.just(END), min_size=1, max_size=4), max_size=4)):
        first = at + draw(st.integers(1, 2**20))
        runs.append((first, tuple(records)))
        at = first + len(records)
    first_form = draw(st.integers(0, 2))
    forms = tuple(draw(st.lists(FORM, max_size=2)))
    return DataPacket(
        draw(NUMBER), draw(NUMBER), tuple(runs), first_form if forms else 0, forms, draw(st.booleans())
    )


@st.composite
def acks(draw: st.DrawFn) -> AckPacket:
    following = draw(st.integers(1, 2**24))
    end, ranges = following, []
    for gap, length in draw(st.lists(st.tuples(st.integers(1, 999), st.integers(1, 999)), max_size=32)):
        ranges.append((end + gap, end + gap + length))
        end += gap + length
    numbers = [draw(NUMBER) for _ in range(4)]
    return AckPacket(*numbers, draw(st.integers(0, 4)), following, tuple(ranges))


@STEADY
@given(data_packets() | acks())
def test_what_was_encoded_is_decoded(packet: DataPacket | AckPacket) -> None:
    assert decode(packet.encode()) == packet


@STEADY
@given(st.builds(bytes.__add__, st.sampled_from([b"", b"\x10", b"\x10\0", b"\x11"]), st.binary(max_size=99)))
def test_any_bytes_are_a_packet_with_one_encoding_or_an_error(data: bytes) -> None:
    try:
        packet = decode(data)
    except PacketError:
        return
    assert packet.encode() == data


@STEADY
@given(data_packets() | acks(), st.data())
def test_damaged_packets_are_errors_or_others(packet: DataPacket | AckPacket, data: st.DataObject) -> None:
    raw = bytearray(packet.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    for damaged in (bytes(raw), cut):
        try:
            decoded = decode(damaged)
        except PacketError:
            continue
        assert decoded.encode() == damaged


def test_a_packet_longer_than_any_is_refused_unread() -> None:
    with pytest.raises(PacketError, match="60001 bytes"):
        decode(b"\x10" + bytes(MAX_RELIABLE_BYTES))
