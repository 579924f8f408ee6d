"""The borrows that are out, by their ends. The store's lock is held around every call."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count

from cache.lease import BorrowState, Lease, Reservation

Borrow = Lease | Reservation


class Borrows:
    """Who has what until when."""

    def __init__(self) -> None:
        self._out: dict[int, Borrow] = {}
        self._due: list[tuple[float, int]] = []
        self._numbers = count()

    def lend(self, borrow: Borrow) -> None:
        """It is out from here on."""
        number = borrow.number = next(self._numbers)
        self._out[number] = borrow
        heappush(self._due, (borrow.deadline, number))

    def take_back(self, borrow: Borrow, state: BorrowState) -> bool:
        """It has ended as `state`; False if it had ended before."""
        if borrow.state is not BorrowState.HELD:
            return False
        borrow.state = state
        self._out.pop(borrow.number, None)
        return True

    def due(self, now: float) -> Iterator[Borrow]:
        """Those whose deadline has passed and that have not ended otherwise; each once."""
        due = self._due
        while due and (due[0][0] <= now or due[0][1] not in self._out):
            _, number = heappop(due)
            borrow = self._out.get(number)
            if borrow is not None:
                yield borrow

    def leases(self) -> int:
        return sum(isinstance(borrow, Lease) for borrow in self._out.values())

    def __iter__(self) -> Iterator[Borrow]:
        """A copy: whoever walks over it may end them."""
        return iter(list(self._out.values()))

    def __len__(self) -> int:
        return len(self._out)
