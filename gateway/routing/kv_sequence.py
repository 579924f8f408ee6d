"""Sequence numbers of one engine's event stream: what to apply, what is missing, what was seen before.

Sans I/O: `kv_events` receives, this decides.
"""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """What a batch is to a stream of which everything before `expected` was applied."""

    APPLY = "apply"
    DUPLICATE = "duplicate"
    """Applied already, through a replay."""
    GAP = "gap"
    """Batches from `expected` on are missing: replay them, then offer this one again."""


class EventSequence:
    """A publisher counts its batches from 0 and sends them in order; replays repeat some."""

    __slots__ = ("expected", "latest_timestamp")

    def __init__(self) -> None:
        self.expected = 0
        self.latest_timestamp = float("-inf")
        """The engine's clock in the latest batch that was applied: an old number with a later time is a new
        engine's."""

    def offer(self, number: int) -> Verdict:
        """May the batch be applied now? If so, it counts as applied."""
        if number < self.expected:
            return Verdict.DUPLICATE
        if number > self.expected:
            return Verdict.GAP
        self.expected = number + 1
        return Verdict.APPLY

    def skip_to(self, number: int) -> int:
        """Give up on what is missing before `number`; returns how many batches that is."""
        lost = max(0, number - self.expected)
        self.expected += lost
        return lost
