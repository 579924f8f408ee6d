"""The schemes that the stream lab compares."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.lab.case import Case
from gateway.lab.datagrams import HEADERS, DatagramStream
from gateway.lab.links import Wire
from gateway.lab.tcp import run_sse
from gateway.transport.pacing import Pacing
from gateway.transport.packetizer import Packetizer, SenderSettings
from gateway.transport.reassembler import Reassembler, ReceiverSettings
from gateway.transport.records import Form, Kind, Record, Template
from gateway.transport.selection import newest_first, oldest_first

Carry = Callable[[Case], None]
"""Brings a case's tokens to the client."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How tokens travel, and what it is in words."""

    carry: Carry
    what: str
    datagrams: bool = True
    """Each packet is an SCTP message; SCTP acknowledges it, too."""


_FORM = Form(b"p" * 122, b"m" * 20, b"s" * 59)
"""As long as the one of vLLM's plain chunk."""
_PATIENT = SenderSettings(overdue_seconds=1e9, silent_seconds=1e9)
"""The lab has no second path to fall back to."""


def datagrams(copies: int = 1, *, spacing: float = 0.0, group: int = 0) -> Carry:
    """Retransmission with several copies of each packet, or with parity."""

    def run(case: Case) -> None:
        stream = DatagramStream(case, copies, spacing, group)
        for token, at in enumerate(case.ready):
            case.clock.at(at, stream.write, token)
        case.run()

    return run


def eloquent(
    settings: SenderSettings = _PATIENT, receiver: ReceiverSettings | None = None, *, paths: int = 1
) -> Carry:
    """The product's packetizer and reassembler. With two `paths`, what follows a loss goes over both."""
    return lambda case: _Eloquent(case, settings, receiver or ReceiverSettings(), hedged=paths > 1).run()


class _Eloquent:
    def __init__(
        self, case: Case, settings: SenderSettings, receiver: ReceiverSettings, *, hedged: bool
    ) -> None:
        self.spare = case.second_path() if hedged else None
        self.case = case
        self.clock = case.clock
        self.sender = Packetizer(1, Template([_FORM]), 0.0, settings=settings)
        self.receiver = Reassembler(1, settings=receiver)
        self.shown = 0
        self.wake_at = self.ack_at = math.inf

    def run(self) -> None:
        for token, at in enumerate(self.case.ready):
            self.clock.at(at, self._write, token)
        self.case.run()

    def _write(self, token: int) -> None:
        self.sender.push(Record(Kind.TEXT, self.case.text(token)), self.clock.now)
        self._pump()

    def _pump(self) -> None:
        now = self.clock.now
        while (out := self.sender.next_packet(now)) is not None:
            self._send(self.case.down, out.data)
            if self.spare is not None and self.sender.lossy(now):
                self._send(self.spare[0], out.data)
        wake = self.sender.next_time(now)
        if wake is not None and (wake < self.wake_at or self.wake_at <= now):
            self.wake_at = wake
            self.clock.at(wake, self._wake, wake)

    def _send(self, wire: Wire, packet: bytes) -> None:
        arrives = wire.send(self.clock.now, HEADERS + len(packet))
        if arrives is not None:
            self.clock.at(arrives, self._arrive, packet)

    def _wake(self, planned: float) -> None:
        if planned == self.wake_at:
            self.wake_at = math.inf
            self._pump()

    def _arrive(self, packet: bytes) -> None:
        for _ in self.receiver.receive(packet, self.clock.now):
            self.case.arrive(self.shown)
            self.shown += 1
        self._acknowledge(math.inf)
        due = self.receiver.next_time
        if due is not None and due != self.ack_at:
            self.ack_at = due
            self.clock.at(due, self._acknowledge, due)

    def _acknowledge(self, planned: float) -> None:
        if planned == self.ack_at:
            self.ack_at = math.inf
        ack = self.receiver.next_ack(self.clock.now)
        if ack is None:
            return
        for wire in (self.case.up, *(self.spare or ())[1:]):
            arrives = wire.send(self.clock.now, HEADERS + len(ack))
            if arrives is not None:
                self.clock.at(arrives, self._acknowledged, ack)

    def _acknowledged(self, ack: bytes) -> None:
        self.sender.acknowledge(ack, self.clock.now)
        self._pump()


def oracle(case: Case) -> None:
    """The floor: knows every millisecond's fate, and sends each token in the first that lets it through.

    Rate limits and bytes do not bind it. What it cannot avoid is that nothing passes while the link is down.
    """
    link, at, rng = case.link, 0, random.Random(f"oracle {case.seed}")
    free = 0.0
    for token, ready in enumerate(case.ready):
        moment = max(ready, free)
        while True:
            while at < len(case.outages) and case.outages[at][1] <= moment:
                at += 1
            bad = at < len(case.outages) and case.outages[at][0] <= moment
            chance = (link.bad_loss if bad else 0.0) if link.bursty else link.loss
            if chance >= 1:
                moment = case.outages[at][1]
            elif rng.random() < chance:
                moment += 0.001
            else:
                break
        free = moment
        case.arrived[token] = moment + link.rtt / 2000
    case.missing = 0


def _paced(**pacing: float) -> SenderSettings:
    return replace(_PATIENT, pacing=replace(Pacing(), **pacing))  # type: ignore[arg-type]


SCHEMES: dict[str, Scheme] = {
    "oracle": Scheme(oracle, "the floor: knows in which millisecond a packet survives", datagrams=False),
    "sse": Scheme(run_sse, "server-sent events on TCP as Linux does it", datagrams=False),
    "retransmit": Scheme(datagrams(), "a datagram per token, sent again when it is found lost"),
    "dup2": Scheme(datagrams(copies=2), "the same, every datagram twice at once"),
    "dup2-later": Scheme(datagrams(copies=2, spacing=0.06), "the second one 60 ms after the first"),
    "dup3": Scheme(datagrams(copies=3), "every datagram three times at once"),
    "fec": Scheme(datagrams(group=4), "retransmission, and a parity datagram after every 4 tokens"),
    "eloquent": Scheme(eloquent(), "the product's packetizer with its defaults"),
    "eloquent-plain": Scheme(
        eloquent(_paced(early_copies=0, calm_interval=0.02, repeat_growth=2.0, longest_repeat=1.0)),
        "the paper's rule and a tail timer that doubles",
    ),
    "eloquent-no-copies": Scheme(eloquent(_paced(early_copies=0)), "without early copies after a loss"),
    "eloquent-20ms": Scheme(eloquent(_paced(calm_interval=0.02)), "a packet per 20 ms on calm paths too"),
    "eloquent-50ms": Scheme(
        eloquent(_paced(calm_interval=0.05)),
        "a packet per 50 ms on calm paths, as a busy gateway sends",
    ),
    "eloquent-burst2": Scheme(
        eloquent(_paced(lossy_burst=2)), "over the cap and after a loss: two packets per interval"
    ),
    "eloquent-ack1": Scheme(
        eloquent(receiver=ReceiverSettings(ack_every=1)), "every packet is acknowledged at once"
    ),
    "eloquent-oldest": Scheme(
        eloquent(replace(_PATIENT, select=oldest_first)), "over the cap: oldest first, and the newest"
    ),
    "eloquent-newest": Scheme(eloquent(replace(_PATIENT, select=newest_first)), "over the cap: newest first"),
    "eloquent-two-paths": Scheme(
        eloquent(paths=2), "after a loss every packet goes over a second, independent path as well"
    ),
}
