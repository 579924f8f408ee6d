from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, cast

import pytest

from gateway.transport.counts import StreamCounts
from gateway.transport.eloquent import AckPacket, DataPacket, decode
from gateway.transport.eloquent_sender import EloquentSender
from gateway.transport.turns import SLOT, Turns


class Loop:
    """A loop whose time passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.plan: list[tuple[float, int, Callable[[int], None], int]] = []
        self.count = 0

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, action: Callable[[int], None], slot: int) -> None:
        self.count += 1
        heapq.heappush(self.plan, (at, self.count, action, slot))

    def run(self, until: float) -> None:
        while self.plan and self.plan[0][0] <= until:
            at, _, action, slot = heapq.heappop(self.plan)
            self.now = max(self.now, at)
            action(slot)
        self.now = until


class Log:
    """A reader of a log that a test writes."""

    def __init__(self) -> None:
        self.after = 0
        self.at_end = False
        self.events: list[bytes] = []
        self.hear: Callable[[], None] = lambda: None

    def listen(self, hear: Callable[[], None]) -> None:
        self.hear = hear

    def take(self) -> list[bytes]:
        events, self.events = self.events, []
        return events

    def delivered(self, before: int, after: int, size: int) -> None:
        self.after = after

    def write(self, text: str) -> None:
        self.events.append(b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text.encode())
        self.hear()


class Path:
    def __init__(self, loop: Loop) -> None:
        self.queued = 0
        self.sent: list[tuple[float, DataPacket]] = []
        self.loop = loop

    def send(self, packet: bytes) -> None:
        data = decode(packet)
        assert isinstance(data, DataPacket)
        self.sent.append((self.loop.now, data))

    send_reliable = send


Rig = tuple[Loop, Log, Path, EloquentSender]


@pytest.fixture
def rig() -> Rig:
    loop, log = Loop(), Log()
    path = Path(loop)
    turns = Turns(cast(Any, loop))
    sender = EloquentSender(1, cast(Any, log), path, turns, StreamCounts(), lambda reason: None)
    sender.turn()
    return loop, log, path, sender


def newest(packet: DataPacket) -> int:
    first, records = packet.runs[-1]
    return first + len(records) - 1


def test_news_leaves_at_the_next_interval_not_with_the_next_repeat(rig: Rig) -> None:
    loop, log, path, _ = rig
    for n in range(50):
        loop.run(n * 0.02)
        log.write(f"w{n}")
    loop.run(1.02)
    news = [(at, newest(packet)) for at, packet in path.sent if packet.runs]
    waits = []
    for n in range(50):
        left = next(at for at, number in news if number > n)
        waits.append(left - n * 0.02)
    assert max(waits) <= 0.04 + SLOT
    assert len(path.sent) < 40


def test_a_busy_path_gets_one_packet_with_all_when_it_is_free(rig: Rig) -> None:
    loop, log, path, _ = rig
    path.queued = 500
    for n in range(10):
        loop.run(n * 0.02)
        log.write("w")
    assert path.sent == []
    path.queued = 0
    loop.run(0.3)
    assert newest(path.sent[0][1]) == 10


def test_what_an_acknowledgement_tells_to_be_lost_goes_out_at_once(rig: Rig) -> None:
    loop, log, path, sender = rig
    for at in (0.0, 0.1, 0.2):
        loop.run(at)
        log.write("w")
    loop.run(0.21)
    sent = [packet for _, packet in path.sent]
    assert newest(sent[-1]) == 3
    # The second packet did not arrive, and so nothing above the first record did.
    sender.acknowledge(AckPacket(1, sent[-1].number, 0, 1, 1, 2, ((3, 4),)).encode())
    before = len(path.sent)
    loop.run(0.25)
    again = path.sent[before:]
    assert [first for _, packet in again for first, _ in packet.runs] == [2]
    assert again[0][0] <= 0.2 + 0.04 + SLOT


def test_what_was_held_back_is_taken_when_an_acknowledgement_makes_room(rig: Rig) -> None:
    loop, log, path, sender = rig

    def some() -> list[bytes]:
        taken, log.events = log.events[:8], log.events[8:]
        return taken

    log.take = some  # type: ignore[method-assign]
    for _ in range(150):
        log.write("w" * 400)
    loop.run(0.1)
    left = len(log.events)
    assert left > 10
    last = path.sent[-1][1].number
    sent = {
        first + n for _, packet in path.sent for first, records in packet.runs for n in range(len(records))
    }
    arrived = next(number for number in range(1, 151) if number not in sent)
    sender.acknowledge(AckPacket(1, last, 0, last, 1, arrived).encode())
    assert len(log.events) < left
