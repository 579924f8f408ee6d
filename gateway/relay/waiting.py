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
    model: str = field(compare=False)


class WaitingRoom(Generic[T]):
    """One queue per model under a common bound. Leaving costs O(1) on average: the ticket stays in its queue
    until it comes to the front or half of the queue has left."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.queues: dict[str, list[_Ticket[T]]] = {}
        """By model; empty when nobody waits."""
        self._left: dict[str, int] = {}
        """Tickets per queue whose item has left."""
        self._tickets: dict[int, _Ticket[T]] = {}
        self._order = count()

    def __len__(self) -> int:
        return len(self._tickets)

    def enter(self, item: T, model: str, priority: int) -> None:
        """Raises RoomFull. Larger `priority` goes first."""
        if len(self._tickets) >= self._limit:
            raise RoomFull
        ticket = _Ticket((-priority, next(self._order)), item, model)
        self._tickets[id(item)] = ticket
        heapq.heappush(self.queues.setdefault(model, []), ticket)

    def leave(self, item: T) -> bool:
        """Was it waiting?"""
        ticket = self._tickets.pop(id(item), None)
        if ticket is None:
            return False
        ticket.item = None
        model = ticket.model
        self._left[model] = left = self._left.get(model, 0) + 1
        queue = self.queues[model]
        if 2 * left > len(queue):
            self._keep(model, [ticket for ticket in queue if ticket.item is not None])
        return True

    def _keep(self, model: str, tickets: list[_Ticket[T]]) -> None:
        """Forget who has left the queue of `model`."""
        self._left.pop(model, None)
        if tickets:
            heapq.heapify(tickets)
            self.queues[model] = tickets
        else:
            del self.queues[model]

    def next(self, models: Iterable[str]) -> T | None:
        """Take out whoever is first for any of `models`."""
        best: list[_Ticket[T]] | None = None
        for model in models:
            queue = self.queues.get(model)
            if queue is None:
                continue
            while queue[0].item is None:
                heapq.heappop(queue)
                self._left[model] -= 1
            if best is None or queue[0] < best[0]:
                best = queue
        if best is None:
            return None
        ticket = heapq.heappop(best)
        item = ticket.item
        assert item is not None
        del self._tickets[id(item)]
        if 2 * self._left.get(ticket.model, 0) >= len(best):
            self._keep(ticket.model, [other for other in best if other.item is not None])
        return item

    def waits_for(self, model: str) -> bool:
        """Does anybody wait for `model` (so that a newcomer may not overtake)?"""
        return model in self.queues
