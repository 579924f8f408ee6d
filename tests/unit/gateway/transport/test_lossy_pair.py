from __future__ import annotations

import heapq
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.transport.eloquent import END, Kind, Packetizer, Reassembler, Record, SenderSettings, Template

STEADY = settings(
    max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
"""The same examples in every run, however slow the machine."""
TICK = 0.005


class Pair:
    """A sender and a receiver with a link between them that loses, delays, doubles and reorders."""

    def __init__(
        self, records: list[Record], seed: int, *, loss: float, outages: list[tuple[float, float]]
    ) -> None:
        self.records = records
        self.rng = random.Random(seed)
        self.loss = loss
        self.outages = outages
        self.sender = Packetizer(
            1, Template(), 0.0, settings=SenderSettings(overdue_seconds=1e9, silent_seconds=1e9)
        )
        self.receiver = Reassembler(1)
        self.air: list[tuple[float, int, bool, bytes]] = []
        self.count = 0
        self.got: list[Record] = []

    def send(self, now: float, up: bool, packet: bytes, *, reliable: bool = False) -> None:
        lost = any(start <= now < end for start, end in self.outages) or self.rng.random() < self.loss
        for _ in range(1 if reliable else 0 if lost else self.rng.choice((1, 1, 1, 2))):
            self.count += 1
            heapq.heappush(self.air, (now + self.rng.uniform(0.01, 0.2), self.count, up, packet))

    def run(self, until: float) -> None:
        left = list(self.records)
        step = 0
        while not self.sender.done and step * TICK < until:
            now = step * TICK
            if left and step % 4 == 0:
                self.sender.push(left.pop(0), now)
            while self.air and self.air[0][0] <= now:
                _, _, up, packet = heapq.heappop(self.air)
                if up:
                    self.sender.acknowledge(packet, now)
                else:
                    self.got += self.receiver.receive(packet, now)
            while (out := self.sender.next_packet(now)) is not None:
                self.send(now, False, out.data, reliable=out.reliable)
            if (ack := self.receiver.next_ack(now)) is not None:
                self.send(now, True, ack)
            step += 1


@STEADY
@given(
    st.lists((st.text(max_size=5) | st.integers(200, 3000).map("x".__mul__)).map(str.encode), max_size=60),
    st.integers(0, 2**16),
    st.floats(0, 0.6),
    st.lists(st.tuples(st.floats(0, 2), st.floats(0, 1.5)), max_size=3),
)
def test_everything_arrives_once_and_in_order_over_any_link(
    payloads: list[bytes], seed: int, loss: float, outages: list[tuple[float, float]]
) -> None:
    records = [*(Record(Kind.JSON, payload) for payload in payloads), END]
    pair = Pair(records, seed, loss=loss, outages=[(start, start + length) for start, length in outages])
    pair.run(until=120.0)
    assert pair.got == records
    assert pair.sender.done
    assert pair.receiver.done
    assert pair.sender.counts.forged == 0
    assert pair.sender.unacked_bytes == 0
