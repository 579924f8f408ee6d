from __future__ import annotations

import pytest

from gateway.transport.eloquent import (
    END,
    MAX_PACKET_BYTES,
    AckPacket,
    DataPacket,
    Form,
    Kind,
    Pacing,
    PacketError,
    Packetizer,
    Record,
    SenderSettings,
    Template,
    decode,
)

FORM = Form(b"p" * 100, b"m" * 20, b"s" * 50)
RTT = 0.1


def text(string: str = " word") -> Record:
    return Record(Kind.TEXT, string.encode())


def opened(*, settings: SenderSettings | None = None, after: int = 0) -> Packetizer:
    return Packetizer(1, Template([FORM]), 0.0, after=after, settings=settings)


def sent(sender: Packetizer, now: float) -> list[DataPacket]:
    """Everything that the sender sends at `now`."""
    packets: list[DataPacket] = []
    while (out := sender.next_packet(now)) is not None:
        packet = decode(out.data)
        assert isinstance(packet, DataPacket)
        assert out.reliable or len(out.data) <= MAX_PACKET_BYTES
        packets.append(packet)
    return packets


def numbers(packet: DataPacket) -> list[int]:
    return [first + i for first, records in packet.runs for i in range(len(records))]


def ack(
    sender: Packetizer, following: int, *ranges: tuple[int, int], echo: int | None = None, lost: int = 0
) -> AckPacket:
    newest = sender.counts.packets if echo is None else echo
    return AckPacket(1, newest, 0, newest - lost, 1, following, ranges)


def test_a_packet_carries_all_that_is_not_acknowledged() -> None:
    sender = opened()
    for n in range(3):
        assert sender.push(text(), n / 10) == n + 1
        (packet,) = sent(sender, n / 10)
        assert numbers(packet) == list(range(1, n + 2))
    sender.acknowledge(ack(sender, 3), 0.25)
    sender.push(text(), 0.3)
    (packet,) = sent(sender, 0.3)
    assert numbers(packet) == [3, 4]


def test_a_range_above_the_gap_is_not_sent_again() -> None:
    sender = opened()
    for _ in range(5):
        sender.push(text(), 0.0)
    sent(sender, 0.0)
    sender.acknowledge(ack(sender, 2, (3, 5)), 0.1)
    sender.push(text(), 0.2)
    (packet,) = sent(sender, 0.2)
    assert numbers(packet) == [2, 5, 6]


def test_forms_are_sent_until_they_are_acknowledged() -> None:
    sender = opened()
    sender.push(text(), 0.0)
    (first,) = sent(sender, 0.0)
    sender.push(text(), 0.1)
    (second,) = sent(sender, 0.1)
    assert first.forms == second.forms == (FORM,)
    sender.acknowledge(ack(sender, 3), 0.2)
    sender.push(text(), 0.2)
    (third,) = sent(sender, 0.2)
    assert third.forms == ()


def test_what_is_written_within_an_interval_shares_a_packet() -> None:
    sender = opened(settings=SenderSettings(Pacing(calm_interval=0.04, initial_rtt=RTT)))
    sender.push(text(), 0.0)
    assert len(sent(sender, 0.0)) == 1
    for n in range(3):
        sender.push(text(), 0.01 * (n + 1))
        assert sent(sender, 0.01 * (n + 1)) == []
    assert sender.next_time(0.03) == pytest.approx(0.04)
    (packet,) = sent(sender, 0.04)
    assert numbers(packet) == [1, 2, 3, 4]


def test_a_calm_path_is_paced_by_its_round_trip_time() -> None:
    sender = opened(settings=SenderSettings(Pacing(initial_rtt=0.8)))
    sender.push(text(), 0.0)
    sent(sender, 0.0)
    sender.push(text(), 0.0)
    assert sender.next_time(0.0) == pytest.approx(0.1)


def test_a_packet_is_built_when_the_path_is_ready_not_before() -> None:
    sender = opened()
    sender.push(text(), 0.0)
    sent(sender, 0.0)
    sender.push(text(), 0.1)
    sender.acknowledge(ack(sender, 2), 0.2)  # the path was busy since 0.1
    (packet,) = sent(sender, 0.3)
    assert numbers(packet) == [2]


def test_the_tail_is_repeated_until_it_is_acknowledged() -> None:
    sender = opened(settings=SenderSettings(Pacing(initial_rtt=RTT)))
    sender.push(text(), 0.0)
    sender.push(END, 0.0)
    sent(sender, 0.0)
    times = []
    now = 0.0
    while now < 1.0:
        due = sender.next_time(now)
        assert due is not None
        now = due
        packets = sent(sender, now)
        if packets:
            assert numbers(packets[0]) == [1, 2]
            assert packets[0].ack_now
            times.append(now)
    assert times[0] < 0.4
    assert max(b - a for a, b in zip(times, times[1:], strict=False)) <= 0.11
    sender.acknowledge(ack(sender, 3), now)
    assert sender.done
    assert sender.next_time(now) is None
    assert sent(sender, now + 10) == []


def test_early_copies_follow_a_loss_and_no_other_packet() -> None:
    settings = SenderSettings(Pacing(initial_rtt=RTT, early_copies=2, loss_memory=5.0))
    sender = opened(settings=settings)
    sender.push(text(), 0.0)
    sent(sender, 0.0)
    assert sent(sender, 0.05) == []
    sender.acknowledge(ack(sender, 2), 0.1)
    sender.push(text(), 0.2)
    sent(sender, 0.2)
    sender.push(text(), 0.3)
    sent(sender, 0.3)
    sender.acknowledge(ack(sender, 4, lost=1), 0.4)
    sender.push(text(), 0.5)
    assert [len(sent(sender, 0.5 + 0.02 * n)) for n in range(5)] == [1, 1, 1, 0, 0]
    assert sender.counts.repeats == 2


def test_what_a_lost_packet_carried_alone_is_sent_again_at_once() -> None:
    big = text("x" * 500)
    sender = opened(settings=SenderSettings(Pacing(initial_rtt=RTT)))
    sender.acknowledge(AckPacket(1, 0, 0, 0, 0, 1), 0.0)
    sender.push(big, 0.0)
    (first,) = sent(sender, 0.0)
    sender.push(big, 0.1)
    (second,) = sent(sender, 0.1)
    assert (numbers(first), numbers(second)) == ([1], [2])
    sender.acknowledge(AckPacket(1, 2, 0, 1, 1, 1, ((2, 3),)), 0.2)
    assert sender.next_time(0.2) == pytest.approx(0.2)
    (again,) = sent(sender, 0.2)
    assert numbers(again) == [1]


def test_more_than_a_packet_holds_leaves_in_several_at_once() -> None:
    sender = opened()
    for _ in range(6):
        sender.push(text("x" * 400), 0.0)
    packets = sent(sender, 0.0)
    assert {n for packet in packets for n in numbers(packet)} == {1, 2, 3, 4, 5, 6}
    assert len(packets) <= 4


@pytest.mark.parametrize("burst", [1, 2])
def test_a_lossy_path_gets_as_many_packets_at_once_as_are_allowed(burst: int) -> None:
    sender = opened(settings=SenderSettings(Pacing(initial_rtt=RTT, lossy_burst=burst)))
    for n in range(6):
        sender.push(text("x" * 400), n / 20)
        sent(sender, n / 20)
    sender.acknowledge(AckPacket(1, 1, 0, 0, 0, 1), 0.3)  # the first packet was lost
    while sent(sender, 0.3):  # what it carried is sent again first
        pass
    sender.push(text("x" * 400), 0.4)
    assert len(sent(sender, 0.4)) == burst


@pytest.mark.parametrize(
    "wrong", [{"interval": 0.0}, {"lossy_burst": 0}, {"early_copies": -1}, {"repeat_growth": 0.5}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Pacing(**wrong)  # type: ignore[arg-type]


def test_a_quiet_path_is_heard_from() -> None:
    sender = opened()
    due = sender.next_time(0.0)
    assert due == pytest.approx(0.4)
    (packet,) = sent(sender, 0.4)
    assert packet.runs == ()
    assert packet.ack_now


def test_a_record_too_long_for_a_datagram_goes_over_the_reliable_channel_once() -> None:
    sender = opened()
    sender.push(Record(Kind.JSON, b"[" + b"1," * 1000 + b"1]"), 0.0)
    sender.push(text(), 0.0)
    first = sender.next_packet(0.0)
    assert first is not None
    assert first.reliable
    (second,) = sent(sender, 0.0)
    assert numbers(second) == [2]
    sender.acknowledge(AckPacket(1, 2, 0, 2, 1, 1, ((2, 3),)), 0.1)
    assert all(numbers(packet) == [] for packet in sent(sender, 1.0))
    sender.acknowledge(AckPacket(1, 2, 0, 2, 1, 3), 1.1)
    assert sender.acked == 2


def test_a_record_too_long_for_any_packet_is_for_another_path() -> None:
    sender = opened(after=6)
    sender.push(Record(Kind.JSON, b"1" * 70_000), 0.0)
    assert sender.fallback is not None
    assert (sender.fallback.reason, sender.fallback.starting_after) == ("oversize", 6)
    assert sender.next_packet(0.0) is None
    assert sender.next_time(0.0) is None
    assert sender.push(text(), 0.1) == 8


def test_overdue_bytes_over_the_cap_for_two_seconds_end_it() -> None:
    sender = opened(settings=SenderSettings(silent_seconds=1e9))
    sender.push(text(), 0.0)
    sent(sender, 0.0)
    sender.acknowledge(ack(sender, 2), 0.1)
    now = 0.1
    while sender.fallback is None and now < 60.0:
        sender.push(text("x" * 50), now)
        sent(sender, now)
        sender.acknowledge(ack(sender, 2), now)
        now += 0.05
    assert sender.fallback is not None
    assert (sender.fallback.reason, sender.fallback.starting_after) == ("overdue", 1)
    assert 3.0 < now < 6.0
    assert sender.unacked_bytes == 0


def test_many_bytes_on_their_way_are_no_reason_to_end_it() -> None:
    sender = opened(settings=SenderSettings(Pacing(initial_rtt=0.4)))
    arrived: list[tuple[float, AckPacket]] = []
    for step in range(500):
        now = step / 50
        while arrived and arrived[0][0] <= now:
            sender.acknowledge(arrived.pop(0)[1], now)
        number = sender.push(text("x" * 300), now)
        if sent(sender, now):
            arrived.append((now + 0.4, ack(sender, number + 1)))
    assert sender.unacked_bytes > 2 * MAX_PACKET_BYTES
    assert sender.fallback is None


def test_an_outage_is_waited_for_whatever_was_written_meanwhile() -> None:
    sender = opened()
    sender.push(text(), 0.0)
    sent(sender, 0.0)
    sender.acknowledge(ack(sender, 2), 0.1)
    for step in range(200):
        sender.push(text("x" * 50), 0.1 + step * 0.05)
        sent(sender, 0.1 + step * 0.05)
    assert sender.fallback is None
    assert sender.unacked_bytes > 5 * MAX_PACKET_BYTES
    packets = sent(sender, 10.2)
    assert packets


def test_silence_ends_it() -> None:
    sender = opened(settings=SenderSettings(silent_seconds=3.0))
    sender.push(text(), 1.0)
    sent(sender, 1.0)
    sent(sender, 3.9)
    assert sender.fallback is None
    sent(sender, 4.1)
    assert sender.fallback is not None
    assert sender.fallback.reason == "silent"


def test_a_backlog_ends_it_instead_of_growing() -> None:
    sender = opened(settings=SenderSettings(backlog_bytes=10_000))
    for _ in range(1000):
        sender.push(text("x" * 100), 0.0)
    assert sender.fallback is not None
    assert sender.fallback.reason == "backlog"
    assert sender.unacked_bytes == 0


@pytest.mark.parametrize(
    "forged",
    [
        AckPacket(2, 1, 0, 1, 1, 2),
        AckPacket(1, 2, 0, 1, 1, 2),
        AckPacket(1, 1, 0, 2, 1, 2),
        AckPacket(1, 1, 0, 1, 2, 2),
        AckPacket(1, 1, 0, 1, 1, 4),
        AckPacket(1, 1, 0, 1, 1, 1, ((3, 4),)),
        AckPacket(1, 1, 0, 1, 1, 2**32 - 2),
    ],
)
def test_forged_acknowledgements_count_and_do_nothing(forged: AckPacket) -> None:
    sender = opened()
    for _ in range(2):
        sender.push(text(), 0.0)
    sent(sender, 0.0)
    sender.push(text(), 0.0)  # record 3 was never sent
    sender.acknowledge(forged.encode(), 0.1)
    assert sender.counts.forged == 1
    assert sender.counts.acks == 0
    assert sender.acked == 0
    (packet,) = sent(sender, 0.2)
    assert numbers(packet) == [1, 2, 3]


def test_an_old_acknowledgement_changes_nothing() -> None:
    sender = opened()
    old = None
    for n in range(4):
        sender.push(text(), n / 10)
        sent(sender, n / 10)
        old = old or ack(sender, 2)
    sender.acknowledge(ack(sender, 5), 0.5)
    assert old is not None
    for _ in range(3):
        sender.acknowledge(old, 0.6)
    assert sender.acked == 4
    assert sender.rtt.samples == 1


@pytest.mark.parametrize("packet", [b"", b"\x11", b"\x10\x00\x01\x01", bytes(70_000)])
def test_what_is_no_acknowledgement_is_a_packet_error(packet: bytes) -> None:
    with pytest.raises(PacketError):
        opened().acknowledge(packet, 0.0)


def test_nothing_follows_the_end() -> None:
    sender = opened()
    sender.push(END, 0.0)
    with pytest.raises(ValueError, match="last"):
        sender.push(text(), 0.0)


def test_the_round_trip_time_leaves_out_what_the_receiver_waited() -> None:
    sender = opened()
    sender.push(text(), 0.0)
    sent(sender, 0.0)
    sender.acknowledge(AckPacket(1, 1, 30, 1, 1, 2), 0.15)
    assert sender.rtt.smoothed == pytest.approx(0.12)
