"""Server-sent events over TCP as Linux does it: SACK, RACK, tail-loss probe, retransmission timer, no Nagle.

What is modelled is what matters for a thin stream: RACK-TLP (RFC 8985) with its reordering window, the
timer with 200 ms under its variance (Linux's floor) and back-off, retransmissions merged into full segments,
delayed acknowledgements, and a window that shrinks. Hand-shakes, receive windows and the detection of
spurious timeouts are not.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from gateway.lab.case import Case

EVENT_BYTES = 203 + 8 + 22 + 6
"""A vLLM chat chunk without its text, `data: ` and blank line, TLS record, HTTP chunk."""
HEADERS = 52
"""IPv4, TCP with time stamps."""
SACK_BLOCK = 8
MSS = 1_348
_RTO_FLOOR = 0.2
_RTO_MAX = 120.0
_DELAYED_ACK = 0.04


@dataclass(slots=True)
class Segment:
    """Bytes `start` up to `end` of the stream, as sent last."""

    start: int
    end: int
    sent: float
    again: bool = False
    sacked: bool = False
    lost: bool = False


class TcpStream:
    """Both ends of one connection."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.clock = case.clock
        self.ends: list[int] = []
        self.written = self.next = self.acked = 0
        self.segments: deque[Segment] = deque()
        self.window = 10.0
        self.threshold = float("inf")
        self.recover = -1
        """End of the current recovery; -1 outside of one."""
        self.srtt = case.link.rtt / 1000
        self.rttvar = self.srtt / 2
        self.least_rtt = self.srtt
        self.backoff = 0
        self.timer = 0
        self.probing = False
        self.rack_sent = 0.0
        self.rack_rtt = self.srtt
        self.rack_timer = 0
        self.most_flying = 0
        # the receiver
        self.expected = 0
        self.held: list[tuple[int, int]] = []
        self.shown = 0
        self.owed = 0
        self.ack_timer = 0

    def write(self, token: int) -> None:
        """The next event goes into the socket."""
        self.written += EVENT_BYTES + len(self.case.text(token))
        self.ends.append(self.written)
        self._send()

    # -- sender

    def _flying(self) -> int:
        return sum(1 for s in self.segments if not s.sacked and not s.lost)

    def _send(self) -> None:
        now, flying = self.clock.now, self._flying()
        idle = not self.segments
        while flying < self.window:
            segment = next((s for s in self.segments if s.lost), None)
            if segment is not None:
                self._merge(segment)
                segment.lost, segment.again, segment.sent = False, True, now
            elif self.next < self.written:
                segment = Segment(self.next, min(self.written, self.next + MSS), now)
                self.next = segment.end
                self.segments.append(segment)
            else:
                break
            self._transmit(segment)
            flying += 1
        self.most_flying = max(self.most_flying, flying)
        if self.segments and idle:
            self._arm()

    def _merge(self, first: Segment) -> None:
        """Take the lost segments right behind `first` into it, as far as they fit."""
        at = self.segments.index(first) + 1
        while at < len(self.segments):
            segment = self.segments[at]
            if not segment.lost or segment.end - first.start > MSS:
                break
            first.end = segment.end
            del self.segments[at]

    def _transmit(self, segment: Segment) -> None:
        arrives = self.case.down.send(self.clock.now, segment.end - segment.start + HEADERS)
        if arrives is not None:
            self.clock.at(arrives, self._arrive, segment.start, segment.end)

    def _rto(self) -> float:
        return float(min((self.srtt + max(4 * self.rttvar, _RTO_FLOOR)) * 2**self.backoff, _RTO_MAX))

    def _arm(self) -> None:
        """Start the timer: for a probe if one is due before, else for the retransmission of everything."""
        self.timer += 1
        if not self.segments:
            return
        wait, action = self._rto(), self._expired
        if not self.probing and not self.backoff and self.recover < 0:
            probe = 2 * self.srtt + (_RTO_FLOOR if len(self.segments) == 1 else 0.002)
            if probe < wait:
                wait, action = probe, self._probe
        self.clock.at(self.clock.now + wait, action, self.timer)

    def _probe(self, timer: int) -> None:
        if timer != self.timer:
            return
        self.probing = True
        if self.next < self.written:
            segment = Segment(self.next, min(self.written, self.next + MSS), self.clock.now)
            self.next = segment.end
            self.segments.append(segment)
        else:
            segment = self.segments[-1]
            segment.again, segment.sent = True, self.clock.now
        self._transmit(segment)
        self._arm()

    def _expired(self, timer: int) -> None:
        if timer != self.timer:
            return
        self.threshold = max(self._flying() * 0.7, 2.0) if not self.backoff else self.threshold
        self.window = 1.0
        self.backoff += 1
        self.recover = self.next
        for segment in self.segments:
            segment.lost = not segment.sacked
        self._send()
        self._arm()

    def _acknowledged(self, upto: int, blocks: list[tuple[int, int]]) -> None:
        now = self.clock.now
        newly = 0
        for segment in list(self.segments):
            covered = segment.end <= upto
            sacked = not covered and any(a <= segment.start and segment.end <= b for a, b in blocks)
            if not covered and not sacked:
                continue
            if not segment.sacked:
                newly += 1
                self._delivered(segment, now)
            segment.sacked, segment.lost = True, False
            if covered:
                self.segments.remove(segment)
        advanced = upto > self.acked
        self.acked = max(self.acked, upto)
        if self.recover >= 0 and self.acked >= self.recover:
            self.recover = -1
        if advanced:
            self.probing = False
            self.backoff = 0
            self._grow(newly)
        self._find_losses()
        self._send()
        if newly:
            self._arm()

    def _delivered(self, segment: Segment, now: float) -> None:
        rtt = now - segment.sent
        if segment.again and rtt < self.least_rtt:
            return  # it acknowledges the first copy
        if not segment.again:
            self.rttvar += (abs(rtt - self.srtt) - self.rttvar) / 4
            self.srtt += (rtt - self.srtt) / 8
            self.least_rtt = min(self.least_rtt, rtt)
        if segment.sent >= self.rack_sent:
            self.rack_sent, self.rack_rtt = segment.sent, rtt

    def _grow(self, acked: int) -> None:
        if self.window < self.threshold:
            if self.window < 2 * self.most_flying:
                self.window += acked
        elif self.window <= self.most_flying:
            self.window += acked / self.window

    def _find_losses(self, timer: int | None = None) -> None:
        """Mark what was sent before the newest delivered segment, by more than the reordering window."""
        if timer is not None and timer != self.rack_timer:
            return
        sacked = sum(1 for s in self.segments if s.sacked)
        slack = 0.0 if self.recover >= 0 or sacked >= 3 else self.least_rtt / 4
        wake = float("inf")
        found = False
        for segment in self.segments:
            if segment.sacked or segment.lost or segment.sent >= self.rack_sent:
                continue
            due = segment.sent + self.rack_rtt + slack
            if due <= self.clock.now + 1e-9:
                segment.lost = found = True
            else:
                wake = min(wake, due)
        if found and self.recover < 0:
            self.recover = self.next
            self.threshold = self.window = max(self.window * 0.7, 2.0)
        self.rack_timer += 1
        if wake < float("inf"):
            self.clock.at(wake, self._find_losses, self.rack_timer)
        if timer is not None:
            self._send()

    # -- receiver

    def _arrive(self, start: int, end: int) -> None:
        at_once = bool(self.held) or end <= self.expected
        self._hold(start, end)
        while self.shown < len(self.ends) and self.ends[self.shown] <= self.expected:
            self.case.arrive(self.shown)
            self.shown += 1
        self.owed += 1
        if at_once or self.held or self.owed >= 2:
            self._acknowledge(None)
        elif self.owed == 1:
            self.ack_timer += 1
            self.clock.at(self.clock.now + _DELAYED_ACK, self._acknowledge, self.ack_timer)

    def _hold(self, start: int, end: int) -> None:
        held: list[tuple[int, int]] = []
        for a, b in sorted([*self.held, (start, end)]):
            if a <= self.expected:
                self.expected = max(self.expected, b)
            elif held and a <= held[-1][1]:
                held[-1] = (held[-1][0], max(held[-1][1], b))
            else:
                held.append((a, b))
        self.held = [(a, b) for a, b in held if b > self.expected]

    def _acknowledge(self, timer: int | None) -> None:
        if timer is not None and timer != self.ack_timer:
            return
        self.ack_timer += 1
        self.owed = 0
        blocks = self.held[-3:]
        arrives = self.case.up.send(self.clock.now, HEADERS + (4 + SACK_BLOCK * len(blocks) if blocks else 0))
        if arrives is not None:
            self.clock.at(arrives, self._acknowledged, self.expected, list(self.held))


def run_sse(case: Case) -> None:
    """Every token is an event on one TCP connection."""
    stream = TcpStream(case)
    for token, at in enumerate(case.ready):
        case.clock.at(at, stream.write, token)
    case.run()
