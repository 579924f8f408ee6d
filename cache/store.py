"""The store: looks prefixes up, lends and reserves slots, and moves chunks between the arena and slower
tiers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Any, NamedTuple

from cache.arena import Arena
from cache.counters import MEMORY, StoreStats, TierStats
from cache.keys import EXACT, NAMESPACE_BYTES, ChunkKey, Namespace
from cache.layout import KVLayout
from cache.lease import BorrowState, Lease, Reservation
from cache.ledger import Event, Ledger
from cache.settings import StoreSettings


class OpenNamespace(NamedTuple):
    """What the store has to know of a namespace that its keys do not say."""

    tenant: str
    exact: bool
    """Whether only lossless codecs may touch its chunks."""
    codec: tuple[str, Mapping[str, Any]] | None
    """Codec and configuration for every slower tier, instead of the tier's own."""


class Store:
    """One engine's KV chunks over all tiers.

    Every method returns soon: transfers run on a few threads of the store. No error of a tier leaves
    `lookup`, `fetch`, `reserve` or `commit`; it is a miss or a lost save, and a counter.

    The arena is in shared memory: pass `arena.name` to `Segment.attach` in the process that copies engine
    pages.
    """

    def __init__(
        self,
        layout: KVLayout,
        settings: StoreSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Raises ValueError for settings that cannot work, OSError if the arena's memory cannot be had."""
        self.layout = layout
        self.settings = settings
        self.chunk_tokens = settings.chunk_blocks * layout.block_tokens
        self.chunk_bytes = settings.chunk_blocks * layout.block_bytes
        self.arena = Arena(settings.memory.bytes, self.chunk_bytes, prefault=settings.memory.prefault)
        self._clock = clock
        self._wall = wall
        self._namespaces: dict[bytes, OpenNamespace] = {}
        self._ledger = Ledger(self.arena, settings.memory.policy, self._quota, self._tenant)
        self._borrows: dict[int, Lease | Reservation] = {}
        self._due: list[tuple[float, int]] = []
        self._numbers = count()

    def open_namespace(
        self, namespace: Namespace, codec: tuple[str, Mapping[str, Any]] | None = None
    ) -> bytes:
        """Tell the store of a namespace before its first key; returns its digest. Idempotent.

        `codec` overrides the tiers' codec for it. Raises ValueError if the namespace is of another layout.
        """
        if namespace.layout != self.layout.fingerprint():
            raise ValueError("the namespace belongs to another KV layout than this store's arena")
        digest = namespace.digest()
        self._namespaces[digest] = OpenNamespace(namespace.tenant, namespace.kind == EXACT, codec)
        return digest

    # Reading

    def lookup(self, keys: Sequence[ChunkKey], *, owner: str, seconds: float | None = None) -> Lease:
        """Borrow the longest prefix of `keys` that is in the arena, and learn how much more other tiers have.

        The lease ends after `seconds` (default `lease_seconds`) unless released before. What was found in
        slower tiers is not on its way yet: call `fetch`.
        """
        now = self._clock()
        deadline = now + (self.settings.lease_seconds if seconds is None else seconds)
        lease = Lease(self, keys, owner, deadline)
        entries, refs = lease.entries, lease.refs
        ledger = self._ledger
        with ledger.lock:
            self._expire(now)
            wall = self._wall()
            find = ledger.entries.get
            for key in keys:
                entry = find(key)
                if entry is None or entry.slot is None:
                    break
                if entry.expires is not None and entry.expires <= wall:
                    ledger.clear(entry)
                    break
                if not entry.holds:
                    ledger.held += 1
                entry.holds += 1
                entries.append(entry)
                refs.append(entry.slot)
            ready = len(refs)
            if ready:
                touch = ledger.room.policy(entries[0].tenant).touch
                for key in reversed(keys[:ready]):
                    touch(key)
            lease.sources = [MEMORY] * ready
            lease.known = ready
            ledger.counters.lookups += 1
            ledger.counters.asked += len(keys)
            ledger.memory.hits += ready
            self._lend(lease, deadline)
        return lease

    def fetch(self, lease: Lease, *, seconds: float, chunks: int | None = None, probe: bool = True) -> None:
        """Start bringing what slower tiers have of the lease's prefix into the arena; `lease.done` tells
        when.

        At most `chunks` leading chunks, for at most `seconds`; then the lease is done with what has arrived,
        and the rest goes on into the arena for later. `probe` also asks shared tiers for chunks that this
        process knows nothing of, such as those of another worker.
        """

    def settle(self, lease: Lease) -> bool:
        """See `Lease.done`."""
        return True

    # Writing

    def reserve(self, keys: Sequence[ChunkKey], *, first: int = 0) -> Reservation:
        """Slots to save chunks into. `first` is the place of `keys[0]` in its sequence, in chunks.

        Evicts what the policy gives up. Chunks that there is no room for get no slot.
        """
        now = self._clock()
        deadline = now + self.settings.reserve_seconds
        reservation = Reservation(self, keys, [None] * len(keys), deadline)
        slots: list[Any] = [None] * len(keys)
        ledger = self._ledger
        with ledger.lock:
            self._expire(now)
            for number, key in enumerate(keys):
                entry = ledger.entry(key)
                if entry.slot is not None or entry.landing is not None:
                    continue
                slots[number] = ledger.begin(entry)
                if slots[number] is None:
                    ledger.memory.dropped += len(keys) - number
                    ledger.tidy(entry)
                    break
                entry.position = (first + number) * self.chunk_tokens
                reservation.entries.append(entry)
            reservation.slots = slots
            if reservation.entries:
                self._lend(reservation, deadline)
        return reservation

    def land(self, reservation: Reservation, written: Sequence[bool] | None) -> int:
        """See `Reservation.commit`."""
        ledger = self._ledger
        with ledger.lock:
            if not self._return(reservation, BorrowState.RELEASED):
                return 0
            expires = None if self.settings.ttl_seconds is None else self._wall() + self.settings.ttl_seconds
            by_key = {key: number for number, key in enumerate(reservation.keys)}
            visible = 0
            for entry in reversed(reservation.entries):
                ref = entry.landing
                wanted = written is None or written[by_key[entry.key]]
                if ref is None or not wanted:
                    ledger.fail(entry)
                elif self.arena.sealed(ref) is None:
                    ledger.counters.unsealed += 1
                    ledger.fail(entry)
                else:
                    entry.expires = expires
                    ledger.land(entry)
                    visible += 1
            ledger.memory.saves += visible
            ledger.memory.written_bytes += visible * self.chunk_bytes
        return visible

    def touch(self, keys: Sequence[ChunkKey]) -> None:
        """The chunks were used: call it with a request's whole prefix when the request has ended."""
        with self._ledger.lock:
            for key in reversed(keys):
                entry = self._ledger.entries.get(key)
                if entry is not None:
                    self._ledger.room.policy(entry.tenant).touch(key)

    # Control

    def pin(self, keys: Iterable[ChunkKey], owner: str, seconds: float) -> int:
        """Keep chunks from eviction on behalf of `owner`, for `seconds`; returns how many are known."""
        until = self._wall() + seconds
        return sum(self._ledger.pin(key, owner, until) for key in keys)

    def unpin(self, keys: Iterable[ChunkKey], owner: str) -> int:
        """End the owner's pins; returns how many chunks nobody pins any more."""
        return sum(self._ledger.unpin(key, owner) for key in keys)

    def take_events(self) -> list[Event]:
        """Chunks stored in and removed from tiers since the last call, in order."""
        return list(self._ledger.take_events())

    def stats(self) -> StoreStats:
        """Counters and fill; a copy."""
        with self._ledger.lock:
            self._expire(self._clock())
            leases = sum(isinstance(borrow, Lease) for borrow in self._borrows.values())
            return StoreStats(
                counters=self._ledger.counters,
                tiers={MEMORY: self._memory_stats()},
                tenants=dict(self._ledger.room.tenants()),
                leases=leases,
                reservations=len(self._borrows) - leases,
                held_chunks=self._ledger.held,
                pinned_chunks=len(self._ledger.pins),
            )

    def close(self) -> None:
        """End every borrow, stop the threads, give the memory back."""
        with self._ledger.lock:
            for borrow in list(self._borrows.values()):
                self.end(borrow, BorrowState.EXPIRED)
        self.arena.close()

    # Borrows

    def end(self, borrow: Lease | Reservation, state: BorrowState) -> None:
        """See `Lease.release` and `Reservation.abort`."""
        ledger = self._ledger
        with ledger.lock:
            if not self._return(borrow, state):
                return
            if isinstance(borrow, Lease):
                for entry in borrow.entries:
                    ledger.unhold(entry)
                borrow.entries.clear()
            else:
                for entry in borrow.entries:
                    ledger.fail(entry)
                borrow.entries.clear()

    def _lend(self, borrow: Lease | Reservation, deadline: float) -> None:
        number = borrow.number = next(self._numbers)
        self._borrows[number] = borrow
        heappush(self._due, (deadline, number))

    def _return(self, borrow: Lease | Reservation, state: BorrowState) -> bool:
        if borrow.state is not BorrowState.HELD:
            return False
        borrow.state = state
        self._borrows.pop(borrow.number, None)
        return True

    def _expire(self, now: float) -> None:
        due = self._due
        while due and (due[0][0] <= now or due[0][1] not in self._borrows):
            _, number = heappop(due)
            borrow = self._borrows.get(number)
            if borrow is None:
                continue
            if isinstance(borrow, Lease):
                self._ledger.counters.expired_leases += 1
            else:
                self._ledger.counters.expired_reservations += 1
            self.end(borrow, BorrowState.EXPIRED)
        if self._ledger.pins:
            self._ledger.expire_pins(self._wall())

    def _quota(self, tenant: str) -> int | None:
        return self.settings.tenants.get(tenant, self.settings.tenant_bytes)

    def _tenant(self, namespace: bytes) -> str:
        known = self._namespaces.get(namespace[:NAMESPACE_BYTES])
        return known.tenant if known is not None else ""

    def _memory_stats(self) -> TierStats:
        return TierStats(
            counters=self._ledger.memory,
            chunks=self.arena.used // self.chunk_bytes,
            used_bytes=self.arena.used,
            capacity_bytes=self.arena.capacity,
            queued=0,
            available=True,
        )
