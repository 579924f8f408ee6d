"""Due times of many items at the cost of a list append each: one slot per millisecond, a heap of slots."""

from __future__ import annotations

import heapq
import math
from typing import Generic, TypeVar

T = TypeVar("T")


class TimerWheel(Generic[T]):
    """Items wait in the slot after their due time; a slot's items leave together, in order of arrival.

    There is no cancelling: the caller skips items that no longer matter when they come out.
    """

    def __init__(self, slot_s: float = 0.001) -> None:
        self._slot_s = slot_s
        self._slots: dict[int, list[T]] = {}
        self._order: list[int] = []

    def schedule(self, when: float, item: T) -> None:
        """Let `item` come out at `when` seconds or up to one slot later, never earlier."""
        slot = math.ceil(when / self._slot_s)
        waiting = self._slots.get(slot)
        if waiting is None:
            self._slots[slot] = [item]
            heapq.heappush(self._order, slot)
        else:
            waiting.append(item)

    def pop_due(self, now: float) -> list[T]:
        """Take out every item whose slot has come by `now`."""
        due: list[T] = []
        # A hair of tolerance: a timer set for a slot's own time must find it due.
        limit = now / self._slot_s + 1e-3
        while self._order and self._order[0] <= limit:
            due += self._slots.pop(heapq.heappop(self._order))
        return due

    def next_when(self) -> float | None:
        """When the next slot comes, None if nothing waits."""
        return self._order[0] * self._slot_s if self._order else None
