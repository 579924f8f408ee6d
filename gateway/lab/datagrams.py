"""Token streams in datagrams with retransmission: one copy of each, several, or one and parity.

Loss is found as TCP finds it: by three later packets that arrived, or by a timer that doubles.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.lab.case import Case

HEADERS = 28 + 37 + 28
"""IPv4 and UDP, DTLS 1.2 record, SCTP with one data chunk."""
SACK_BYTES = 28 + 37 + 28
"""SCTP's own acknowledgement, alone in a packet."""
PACKET_HEAD = 6
RECORD_HEAD = 2
RANGE_BYTES = 2
_RTO_FLOOR = 0.2
_RTO_MAX = 2.0
_ACK_EVERY = 2
_ACK_DELAY = 0.04
_LATER = 3


@dataclass(slots=True)
class Sent:
    """A token that has not been acknowledged."""

    token: int
    order: int
    """Number of its last sending among all."""
    at: float
    tries: int = 1


@dataclass(slots=True)
class DatagramStream:
    """`copies` of every packet, `spacing` seconds apart; a parity packet after `group` tokens, if not 0."""

    case: Case
    copies: int = 1
    spacing: float = 0.0
    group: int = 0
    unacked: dict[int, Sent] = field(default_factory=dict)
    order: int = 0
    srtt: float = 0.0
    rttvar: float = 0.0
    best: int = -1
    """Highest order that was acknowledged."""
    got: set[int] = field(default_factory=set)
    """Tokens at the receiver."""
    parities: set[int] = field(default_factory=set)
    """Groups whose parity is at the receiver."""
    below: int = 0
    """All tokens below are at the receiver."""
    newest: int = -1
    """Order of the newest packet at the receiver."""
    owed: int = 0
    ack_timer: int = 0

    def __post_init__(self) -> None:
        self.srtt = self.case.link.rtt / 1000
        self.rttvar = self.srtt / 2

    def write(self, token: int) -> None:
        """Send the next token."""
        self._send(Sent(token, 0, 0.0))
        if self.group and (token + 1) % self.group == 0:
            arrives = self._transmit(16)
            if arrives is not None:
                self.case.clock.at(arrives, self._parity, token // self.group)

    def _transmit(self, payload: int) -> float | None:
        return self.case.down.send(self.case.clock.now, HEADERS + PACKET_HEAD + payload)

    def _send(self, sent: Sent) -> None:
        self.order += 1
        sent.order, sent.at = self.order, self.case.clock.now
        self.unacked[sent.token] = sent
        self._copy(sent.token, sent.order)
        for copy in range(1, self.copies):
            if self.spacing:
                self.case.clock.at(sent.at + copy * self.spacing, self._copy, sent.token, sent.order)
            else:
                self._copy(sent.token, sent.order)
        wait = min((self.srtt + max(4 * self.rttvar, _RTO_FLOOR)) * 2 ** (sent.tries - 1), _RTO_MAX)
        self.case.clock.at(self.case.clock.now + wait, self._expired, sent.token, sent.order)

    def _copy(self, token: int, order: int) -> None:
        sent_at = self.case.clock.now
        arrives = self._transmit(RECORD_HEAD + len(self.case.text(token)))
        if arrives is not None:
            self.case.clock.at(arrives, self._arrive, token, order, sent_at)

    def _expired(self, token: int, order: int) -> None:
        sent = self.unacked.get(token)
        if sent is not None and sent.order == order:
            sent.tries += 1
            self._send(sent)

    def _acknowledged(self, below: int, above: frozenset[int], newest: int, sent_at: float) -> None:
        sample = self.case.clock.now - sent_at
        self.rttvar += (abs(sample - self.srtt) - self.rttvar) / 4
        self.srtt += (sample - self.srtt) / 8
        self.best = max(self.best, newest)
        for token in [t for t in self.unacked if t < below or t in above]:
            del self.unacked[token]
        for sent in [s for s in self.unacked.values() if s.order + _LATER <= self.best]:
            sent.tries += 1
            self._send(sent)

    def _arrive(self, token: int, order: int, sent_at: float) -> None:
        self._take(token)
        if self.group:
            self._repair(token // self.group)
        self.newest = max(self.newest, order)
        self.owed += 1
        gap = len(self.got) > self.below
        if gap or self.owed >= _ACK_EVERY * self.copies:
            self._acknowledge(None, sent_at)
        elif self.owed == 1:
            self.ack_timer += 1
            self.case.clock.at(self.case.clock.now + _ACK_DELAY, self._acknowledge, self.ack_timer, sent_at)

    def _parity(self, group: int) -> None:
        self.parities.add(group)
        self._repair(group)

    def _repair(self, group: int) -> None:
        """A group with its parity and all tokens but one has that one too."""
        if group in self.parities:
            tokens = range(group * self.group, (group + 1) * self.group)
            missing = [token for token in tokens if token not in self.got]
            if len(missing) == 1:
                self._take(missing[0])

    def _take(self, token: int) -> None:
        self.got.add(token)
        while self.below in self.got:
            self.below += 1
        self.case.arrive(token)

    def _acknowledge(self, timer: int | None, sent_at: float) -> None:
        if timer is not None and timer != self.ack_timer:
            return
        self.ack_timer += 1
        self.owed = 0
        above = frozenset(token for token in self.got if token > self.below)
        ranges = sum(1 for token in above if token - 1 not in above)
        size = HEADERS + PACKET_HEAD + RANGE_BYTES * ranges
        arrives = self.case.up.send(self.case.clock.now, size)
        if arrives is not None:
            self.case.clock.at(arrives, self._acknowledged, self.below, above, self.newest, sent_at)
