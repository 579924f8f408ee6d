"""Borrows: a lease keeps chunks readable, a reservation keeps slots writable. Both always end.

A borrow ends when its owner releases it (or leaves its `with`), when its deadline passes, or when the store
is closed. After that the object still answers, but holds nothing: `slots` raises, and references that were
taken out of it are noticed as stale by `Segment.current`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from cache.arena import SlotRef
from cache.keys import ChunkKey

if TYPE_CHECKING:
    from cache.economy import Decision
    from cache.fetch import Fetch
    from cache.index import Entry


class BorrowState(StrEnum):
    HELD = "held"
    RELEASED = "released"
    EXPIRED = "expired"


class BorrowEnded(RuntimeError):
    """The lease or reservation ended before this use of it: treat its chunks as misses."""


class Lender(Protocol):
    """What a borrow needs from the store."""

    def settle(self, lease: Lease) -> bool: ...

    def end(self, borrow: Lease | Reservation, state: BorrowState) -> None: ...

    def land(self, reservation: Reservation, written: Sequence[bool] | None) -> int: ...


class Lease:
    """The longest prefix of `keys` that the store has, kept from eviction until the lease ends.

    `ready` leading chunks are in the arena; `known` leading chunks are in some tier (`known >= ready`). Both
    only grow, and only while `Store.fetch` is under way. `sources[i]` is the tier that chunk i was found in.
    """

    def __init__(self, lender: Lender, keys: Sequence[ChunkKey], owner: str, deadline: float) -> None:
        self.keys = keys
        self.owner = owner
        self.deadline = deadline
        """On the store's clock."""
        self.state = BorrowState.HELD
        self.number = -1
        """The store's."""
        self.sources: list[str] = []
        self.known = 0
        self.fetch: Fetch | None = None
        """What is on its way; the store's."""
        self.decision: Decision | None = None
        """On loading what the fetch found by asking, once it has found something."""
        self.ended: float | None = None
        """When the last fetch for it ended, on the store's clock."""
        self.settled = threading.Event()
        """Set while nothing is on its way for this lease."""
        self.settled.set()
        self.entries: list[Entry] = []
        """Of the ready chunks; the store's."""
        self.refs: list[SlotRef] = []
        self._lender = lender

    @property
    def ready(self) -> int:
        """Leading chunks that can be copied from the arena now."""
        return len(self.refs)

    @property
    def done(self) -> bool:
        """Whether nothing more will become ready: no fetch is under way, or its deadline has passed."""
        return self._lender.settle(self)

    def slots(self, first: int = 0, last: int | None = None) -> list[SlotRef]:
        """References to ready chunks `first` to `last` (excluded; all ready ones by default).

        Raises BorrowEnded if the lease was released or expired.
        """
        if self.state is not BorrowState.HELD:
            raise BorrowEnded(f"the lease of {self.owner} is {self.state}: look up again")
        return self.refs[first:last]

    def wait(self, timeout: float) -> bool:
        """Block until `done`, at most `timeout` seconds; returns `done`. Not for the engine's own thread."""
        self.settled.wait(timeout)
        return self.done

    def release(self) -> None:
        """Give everything back; a fetch under way goes on without the lease. Idempotent."""
        self._lender.end(self, BorrowState.RELEASED)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Reservation:
    """Slots to write chunks into. `slots[i]` is None where nothing is to be written for `keys[i]`.

    That is so for chunks that are in memory already or being saved by somebody else, and for those that there
    is no room for: a save is dropped rather than delayed.

    Write each slot while `Segment.current(ref)`, then `Segment.seal(ref)` it, from any process; then
    `commit`.
    """

    def __init__(
        self, lender: Lender, keys: Sequence[ChunkKey], slots: Sequence[SlotRef | None], deadline: float
    ) -> None:
        self.keys = keys
        self.slots = slots
        self.deadline = deadline
        self.state = BorrowState.HELD
        self.number = -1
        """The store's."""
        self.entries: list[Entry] = []
        """The reserved chunks; the store's."""
        self._lender = lender

    def commit(self, written: Sequence[bool] | None = None) -> int:
        """Make the sealed slots visible and queue them for slower tiers; returns how many became visible.

        `written[i]` False leaves chunk i out. Slots that were not sealed are given back and counted. After
        the end of the reservation nothing happens and 0 is returned.
        """
        return self._lender.land(self, written)

    def abort(self) -> None:
        """Give the slots back unread. Idempotent; does nothing after `commit`."""
        self._lender.end(self, BorrowState.RELEASED)
