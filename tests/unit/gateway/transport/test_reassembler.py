from __future__ import annotations

import pytest

from gateway.transport.eloquent import (
    END,
    AckPacket,
    DataPacket,
    Form,
    Kind,
    PacketError,
    Reassembler,
    ReceiverSettings,
    Record,
    decode,
)

FORM = Form(b"p", b"m", b"s")


def text(string: str) -> Record:
    return Record(Kind.TEXT, string.encode())


def data(number: int, *runs: tuple[int, str], ack_now: bool = False, stream: int = 1) -> DataPacket:
    """A packet whose runs have one record per letter."""
    records = tuple((first, tuple(map(text, letters))) for first, letters in runs)
    return DataPacket(stream, number, records, 0, (FORM,), ack_now)


def letters(records: list[Record]) -> str:
    return b"".join(record.payload for record in records).decode()


def acked(receiver: Reassembler, now: float) -> AckPacket | None:
    raw = receiver.next_ack(now)
    packet = None if raw is None else decode(raw)
    assert packet is None or isinstance(packet, AckPacket)
    return packet


def test_records_come_out_in_order_once() -> None:
    receiver = Reassembler(1)
    assert letters(receiver.receive(data(2, (2, "bc")), 0.0)) == ""
    assert letters(receiver.receive(data(1, (1, "ab")), 0.0)) == "abc"
    assert letters(receiver.receive(data(3, (1, "abcd")), 0.0)) == "d"
    assert receiver.counts.duplicates == 4


def test_a_resumed_stream_begins_behind_what_is_there() -> None:
    receiver = Reassembler(1, after=5)
    assert letters(receiver.receive(data(1, (4, "defg")), 0.0)) == "fg"


def test_few_packets_are_acknowledged_late_and_many_at_once() -> None:
    receiver = Reassembler(1, settings=ReceiverSettings(ack_every=3, ack_delay=0.04))
    receiver.receive(data(1, (1, "a")), 0.0)
    assert receiver.next_time == pytest.approx(0.04)
    assert acked(receiver, 0.039) is None
    assert acked(receiver, 0.04) == AckPacket(1, 1, 40, 1, 1, 2)
    assert receiver.next_time is None
    receiver.receive(data(2, (2, "b")), 0.1)
    receiver.receive(data(3, (3, "c")), 0.1)
    assert acked(receiver, 0.1) is None
    receiver.receive(data(4, (4, "d")), 0.11)
    assert acked(receiver, 0.11) == AckPacket(1, 4, 0, 4, 1, 5)


def test_a_gap_is_told_at_once() -> None:
    receiver = Reassembler(1)
    receiver.receive(data(2, (2, "b"), (5, "ef")), 0.0)
    assert acked(receiver, 0.0) == AckPacket(1, 2, 0, 1, 1, 1, ((2, 3), (5, 7)))


def test_the_sender_may_ask_for_it_at_once() -> None:
    receiver = Reassembler(1)
    receiver.receive(data(1, ack_now=True), 0.0)
    assert acked(receiver, 0.0) is not None


def test_the_end_is_acknowledged_at_once_and_again_when_it_comes_again() -> None:
    receiver = Reassembler(1)
    last = DataPacket(1, 1, ((1, (END,)),))
    assert receiver.receive(last, 0.0) == [END]
    assert receiver.done
    assert acked(receiver, 0.0) is not None
    assert receiver.receive(last, 0.1) == []
    assert acked(receiver, 0.1) is not None


def test_packets_are_counted_once_whatever_the_network_does() -> None:
    receiver = Reassembler(1)
    for number in (1, 3, 3, 2, 3, 100, 99, 1):
        receiver.receive(data(number, ack_now=True), 0.0)
    ack = acked(receiver, 0.0)
    assert ack is not None
    assert (ack.echo, ack.received) == (100, 5)


def test_another_streams_packet_is_not_ours() -> None:
    receiver = Reassembler(1)
    assert receiver.receive(data(1, (1, "a"), stream=2), 0.0) == []
    assert receiver.counts.stray == 1
    assert receiver.next_time is None


def test_what_is_held_back_is_bounded() -> None:
    receiver = Reassembler(1, settings=ReceiverSettings(ahead_records=10, ahead_bytes=100))
    receiver.receive(data(1, (12, "l")), 0.0)
    assert receiver.counts.refused == 1
    big = DataPacket(1, 2, ((2, (text("x" * 60), text("y" * 60))),), 0, (FORM,))
    receiver.receive(big, 0.0)
    assert receiver.counts.refused == 2
    ack = acked(receiver, 0.0)
    assert ack is not None
    assert ack.ranges == ((2, 3),)


def test_nothing_comes_after_the_end() -> None:
    receiver = Reassembler(1)
    receiver.receive(DataPacket(1, 1, ((1, (END,)),)), 0.0)
    assert receiver.receive(data(2, (2, "b")), 0.0) == []
    assert receiver.counts.refused == 1


def test_a_text_of_an_unknown_form_is_not_taken() -> None:
    receiver = Reassembler(1)
    bare = DataPacket(1, 1, ((1, (text("a"),)),))
    assert receiver.receive(bare, 0.0) == []
    assert letters(receiver.receive(data(2, (1, "a")), 0.0)) == "a"


def test_a_known_form_does_not_change() -> None:
    receiver = Reassembler(1)
    receiver.receive(data(1, (1, "a")), 0.0)
    other = Form(b"x", b"y", b"z")
    receiver.receive(DataPacket(1, 2, (), 0, (other, other)), 0.0)
    receiver.receive(DataPacket(1, 3, (), 3, (other,)), 0.0)
    assert receiver.template.forms == [FORM, other]


def test_what_came_another_way_is_skipped() -> None:
    receiver = Reassembler(1)
    receiver.receive(data(1, (3, "cd"), (6, "f")), 0.0)
    assert letters(receiver.skip_to(3)) == "cd"
    assert receiver.next == 5
    assert letters(receiver.skip_to(2)) == ""
    assert letters(receiver.receive(data(2, (5, "e")), 0.0)) == "ef"


def test_an_acknowledgement_is_not_for_a_receiver() -> None:
    with pytest.raises(PacketError):
        Reassembler(1).receive(AckPacket(1, 0, 0, 0, 0, 1).encode(), 0.0)
