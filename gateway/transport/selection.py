"""Which unacknowledged records go into a packet that cannot hold them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

RUN_BYTES = 8
"""Most that a run's first number and count take in a packet of at most 1,100 bytes."""


@dataclass(slots=True)
class Pending:
    """A record that has not been acknowledged, encoded."""

    number: int
    data: bytes
    first_sent: float = -1.0
    """-1 until it was in a packet."""
    last_sent: float = -1.0
    """Before all time once the packet of its last sending is known to be lost."""
    packet: int = 0
    """Number of the last packet that it was in."""


Select = Callable[[Sequence[Pending], int, float], list[Pending]]
"""(records oldest first, bytes of room, time before which a last sending counts as lost) -> some of them,
oldest first. A newest that was never sent is always among them if it fits."""


def oldest_first(pending: Sequence[Pending], room: int, lost_before: float) -> list[Pending]:
    """The newest, and the oldest that fit beside it: the paper's rule."""
    return _fill([pending[-1], *pending[:-1]], room)


def newest_first(pending: Sequence[Pending], room: int, lost_before: float) -> list[Pending]:
    """The newest that fit. What is older waits until these are acknowledged."""
    return _fill(list(reversed(pending)), room)


def lost_first(pending: Sequence[Pending], room: int, lost_before: float) -> list[Pending]:
    """A newest that was never sent, what is lost, the rest of what was never sent, the least recently sent.

    With room for all it does what every rule does. Without, consecutive packets cover different records
    instead of the same ones for a whole round trip.
    """

    def urgency(record: Pending) -> tuple[int, float, int]:
        if record.first_sent < 0:
            return (1, 0.0, record.number)
        if record.last_sent < lost_before:
            return (0, 0.0, record.number)
        return (2, record.last_sent, record.number)

    ordered = sorted(pending, key=urgency)
    newest = pending[-1]
    return _fill([newest, *ordered] if newest.first_sent < 0 else ordered, room)


def _fill(wanted: Sequence[Pending], room: int) -> list[Pending]:
    chosen: dict[int, Pending] = {}
    for record in wanted:
        near = record.number - 1 in chosen or record.number + 1 in chosen
        cost = len(record.data) + (0 if near else RUN_BYTES)
        if cost <= room and record.number not in chosen:
            chosen[record.number] = record
            room -= cost
    return [chosen[number] for number in sorted(chosen)]
