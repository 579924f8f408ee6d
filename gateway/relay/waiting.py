"""Requests for which every worker is full: a bounded room, highest priority first, then first come."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


class RoomFull(Exception):
    """So many are waiting already that another one would only time out."""


@dataclass(order=True, slots=True)
class _Ticket(Generic[T]):
    rank: tuple[int, int]
    item: T | None = field(compare=False)


class WaitingRoom(Generic[T]):
    """One queue per model under a common bound. Leaving is O(1): the ticket stays and is skipped."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queues: dict[str, list[_Ticket[T]]] = {}
        self._tickets: dict[int, _Ticket[T]] = {}
        self._order = count()

    def __len__(self) -> int:
        return len(self._tickets)

    def enter(self, item: T, model: str, priority: int) -> None:
        """Raises RoomFull. Larger `priority` goes first."""
        if len(self._tickets) >= self._limit:
            raise RoomFull
        ticket = _Ticket((-priority, next(self._order)), item)
        self._tickets[id(item)] = ticket
        heapq.heappush(self._queues.setdefault(model, []), ticket)

    def leave(self, item: T) -> bool:
        """Was it waiting?"""
        ticket = self._tickets.pop(id(item), None)
        if ticket is None:
            return False
        ticket.item = None
        return True

    def next(self, models: Iterable[str]) -> T | None:
        """Take out whoever is first for any of `models`."""
        best: list[_Ticket[T]] | None = None
        for model in models:
            queue = self._queues.get(model)
            while queue and queue[0].item is None:
                heapq.heappop(queue)
            if queue is None:
                continue
            if not queue:
                del self._queues[model]
            elif best is None or queue[0] < best[0]:
                best = queue
        if best is None:
            return None
        item = heapq.heappop(best).item
        assert item is not None
        del self._tickets[id(item)]
        return item

    def waits_for(self, model: str) -> bool:
        """Does anybody wait for `model` (so that a newcomer may not overtake)?"""
        queue = self._queues.get(model)
        return bool(queue) and any(ticket.item is not None for ticket in queue or ())
