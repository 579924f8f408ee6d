"""Which chunk is where, and who holds it. The one place that changes it, behind one lock.

A slot belongs to exactly one of: a landing (reservation or fetch), a readable entry, the free list. Every
method here keeps that true, whatever order lookups, transfers, evictions, pins, clears and expiries come in.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from cache.arena import Arena, SlotRef
from cache.counters import MEMORY, StoreCounters, TierCounters
from cache.index import Entry, Place, Room
from cache.keys import ChunkKey, namespace_of
from cache.pins import Pins
from cache.policies.lru import LRU
from cache.settings import Quotas
from cache.tiers.tier import Fault

_EVENTS = 1 << 16
_VICTIMS_THAT_STAY = 8
"""Slots tried for one entry that turn out to be unwritten: then the save is dropped, not the whole arena
flushed."""


class Event(NamedTuple):
    """A chunk came into a tier or left it."""

    stored: bool
    key: ChunkKey
    tier: str


class Ledger:
    """Entries, slots, holds, pins. `lock` is reentrant; methods take it themselves unless they say
    otherwise."""

    def __init__(
        self,
        arena: Arena,
        policy: str,
        quotas: Quotas,
        tenant_of: Callable[[bytes], str | None],
    ) -> None:
        """`tenant_of` a namespace, None for one that was not opened."""
        self.lock = threading.RLock()
        self.unbounded: frozenset[str] = frozenset()
        """Tiers that their own servers bound: what is only there can be forgotten, and found by asking."""
        self.far = LRU(0)
        """Chunks that only such tiers have, by their last use here."""
        self.arena = arena
        self.entries: dict[ChunkKey, Entry] = {}
        self.counters = StoreCounters()
        self.memory = TierCounters()
        self.pins = Pins()
        self.events: deque[Event] = deque()
        self.copies: Counter[str] = Counter()
        """Chunks by tier, kept as they come and go: engines ask for every request."""
        self.leaving = 0
        """Victims that wait to be written."""
        self.held = 0
        """Chunks with at least one hold."""
        self.before_drop: Callable[[Entry], bool] = _let_go
        """Asked before a slot is evicted; True: its bytes are being written, and the slot is dropped after
        that."""
        self.room = Room(arena, policy, quotas)
        self._tenant_of = tenant_of
        self._found_tenants: dict[bytes, str] = {}

    # Entries

    def entry(self, key: ChunkKey) -> Entry:
        """The entry of a key, made if there is none; one that stays without slot and places must be
        `tidy`-ed."""
        entry = self.entries.get(key)
        if entry is None:
            entry = self.entries[key] = Entry(key, self.tenant(namespace_of(key)))
            entry.pinned = bool(self.pins) and key in self.pins
        return entry

    def tenant(self, namespace: bytes) -> str:
        """Whose chunks a namespace's are: as it was opened, else as a tier that knows has told."""
        opened = self._tenant_of(namespace)
        return self._found_tenants.get(namespace, "") if opened is None else opened

    def learn_tenant(self, namespace: bytes, tenant: str) -> None:
        """A tier holds chunks of a namespace that may not have been opened since this process began."""
        with self.lock:
            self._found_tenants[namespace] = tenant

    def tidy(self, entry: Entry) -> None:
        """Forget an entry that nothing is known of any more; one that is only far away may be forgotten."""
        if not entry.indexed or entry.slot is not None or entry.landing is not None:
            return
        if not entry.places:
            entry.indexed = False
            self.far.remove(entry.key)
            del self.entries[entry.key]
        elif not entry.pinned and self.unbounded.issuperset(entry.places):
            self.far.insert(entry.key, 0)

    def forget_far(self, most: int) -> None:
        """Forget what is only far away beyond `most` chunks, what was not used for longest first.

        Nobody is told: the chunks are where they were, and whoever asks there finds them.
        """
        while len(self.far) > most and (key := self.far.evict(_never)) is not None:
            entry = self.entries.pop(ChunkKey(key))
            entry.indexed = False
            self.copies.subtract(entry.places.keys())
            self.counters.forgotten += 1

    # Holds

    def hold(self, entry: Entry) -> None:
        if not entry.holds:
            self.held += 1
        entry.holds += 1

    def unhold(self, entry: Entry) -> None:
        entry.holds -= 1
        if not entry.holds:
            self.held -= 1
            if not entry.indexed and entry.slot is not None:
                self._free(entry, entry.slot)

    # Slots

    def begin(self, entry: Entry) -> SlotRef | None:
        """Give an entry without a slot one to be filled, evicting what must go for it; None if all that could
        go is in use."""
        tenant, namespace = entry.tenant, namespace_of(entry.key)
        with self.lock:
            stayed = 0
            while (ref := self.room.take(tenant, namespace)) is None:
                key = self.room.victim(tenant, namespace, self._is_held)
                if key is None or stayed > _VICTIMS_THAT_STAY:
                    self.counters.quota_refusals += self.room.is_full_for(tenant, namespace)
                    return None
                stayed += not self._evict(self.entries[ChunkKey(key)])
            self.far.remove(entry.key)
            entry.landing = ref
            return ref

    def begin_all(self, entries: Sequence[Entry], *, evict: bool = True) -> int:
        """Give entries of one namespace, none of which has a slot, one each to be filled; how many of them
        got one, from the first on. Without `evict` only as many as are free."""
        if not entries:
            return 0
        with self.lock:
            first = entries[0]
            refs = self.room.take_free(first.tenant, namespace_of(first.key), len(entries))
            for entry, ref in zip(entries, refs, strict=False):
                entry.landing = ref
            if len(self.far):
                for entry in entries[: len(refs)]:
                    self.far.remove(entry.key)
            for number in range(len(refs), len(entries)):
                if not evict or self.begin(entries[number]) is None:
                    return number
            return len(entries)

    def land(self, entry: Entry) -> None:
        """The landing slot is complete: readable from now on."""
        with self.lock:
            ref, entry.landing, entry.fetching = entry.landing, None, False
            if ref is None:
                raise ValueError("nothing was to land")
            entry.slot = ref
            if entry.indexed:
                self._settle(entry)
                self._tell(Event(True, entry.key, MEMORY))
            if entry.waiters:
                self._wake(entry)
            if not entry.indexed and not entry.holds:
                self._free(entry, ref)

    def land_all(self, entries: Sequence[Entry]) -> None:
        """The landing slots of entries of one tenant are complete; `land` for many at once."""
        if not entries:
            return
        with self.lock:
            insert, nbytes = self.room.policy(entries[0].tenant).insert, self.arena.slot_bytes
            for entry in entries:
                if entry.landing is None or not entry.indexed or entry.pinned:
                    self.land(entry)
                    continue
                entry.slot, entry.landing, entry.fetching = entry.landing, None, False
                insert(entry.key, nbytes)
                self._tell(Event(True, entry.key, MEMORY))
                if entry.waiters:
                    self._wake(entry)

    def fail(self, entry: Entry) -> None:
        """The landing slot will not be filled."""
        with self.lock:
            ref, entry.landing, entry.fetching = entry.landing, None, False
            if ref is not None:
                self.room.give(ref, entry.tenant, namespace_of(entry.key))
            self._wake(entry)
            self.tidy(entry)

    def leave(self, entry: Entry) -> None:
        """A victim has been written: free its slot, unless somebody has come to need it since."""
        with self.lock:
            self.leaving -= 1
            if entry.slot is None or not entry.indexed:
                return
            if entry.holds or entry.pinned:
                self._settle(entry)
                return
            self.room.forget(entry)
            self._free(entry, entry.slot)
            self.memory.evictions += 1
            self._tell(Event(False, entry.key, MEMORY))
            self.tidy(entry)

    def drop(self, entry: Entry) -> bool:
        """Free the slot unless somebody holds it; returns whether it was freed."""
        with self.lock:
            if entry.slot is None or entry.holds:
                return False
            self.room.forget(entry)
            self._free(entry, entry.slot)
            self._tell(Event(False, entry.key, MEMORY))
            self.tidy(entry)
            return True

    def discard(self, entry: Entry) -> None:
        """The slot's bytes are damaged: no lookup finds them from here on, and those who hold the slot see
        that it has no seal any more; the last of them frees it. Copies in slower tiers stay known."""
        with self.lock:
            if entry.slot is None:
                return
            self.arena.unseal(entry.slot)
            if not entry.indexed:
                return
            self.memory.fault(Fault.CORRUPT)
            self.room.forget(entry)
            self._tell(Event(False, entry.key, MEMORY))
            if entry.holds:
                entry.indexed = False
                heir = self.entries[entry.key] = Entry(entry.key, entry.tenant)
                heir.places, heir.position = entry.places, entry.position
                heir.expires, heir.pinned = entry.expires, entry.pinned
                entry.places = {}
                self.tidy(heir)
            else:
                self._free(entry, entry.slot)
                self.tidy(entry)

    def clear(self, entry: Entry) -> None:
        """Forget the chunk: no lookup finds it from here on. Those who hold its slot go on reading it."""
        with self.lock:
            if not entry.indexed:
                return
            self.room.forget(entry)
            self.far.remove(entry.key)
            entry.indexed = False
            del self.entries[entry.key]
            if entry.slot is not None:
                self._tell(Event(False, entry.key, MEMORY))
                if not entry.holds:
                    self._free(entry, entry.slot)
            for tier in entry.places:
                self._tell(Event(False, entry.key, tier))

    def replenish(self, share: float) -> None:
        """Evict, starting the write-back of what is unwritten, until `share` of the arena is free or on its
        way out."""
        with self.lock:
            wanted = self.arena.capacity * (1 - share)
            while self.arena.used - self.leaving * self.arena.slot_bytes > wanted:
                key = self.room.victim("", b"", self._is_held)
                if key is None:
                    return
                self._evict(self.entries[ChunkKey(key)])

    # Slower tiers

    def placed(self, entry: Entry, tier: str, place: Place) -> None:
        """A copy is in `tier`."""
        with self.lock:
            if not entry.indexed:
                return
            if tier not in entry.places:
                self._tell(Event(True, entry.key, tier))
            entry.places[tier] = place
            if entry.slot is None:
                if tier not in self.unbounded:
                    self.far.remove(entry.key)
                self.tidy(entry)

    def displaced(self, entry: Entry, tier: str) -> None:
        """The copy in `tier` is gone."""
        with self.lock:
            if entry.places.pop(tier, None) is not None and entry.indexed:
                self._tell(Event(False, entry.key, tier))
                self.tidy(entry)

    # Pins

    def pin(self, key: ChunkKey, owner: str, until: float) -> bool:
        """Pin a chunk that is known; returns whether it is."""
        with self.lock:
            entry = self.entries.get(key)
            if entry is None:
                return False
            self.pins.pin(key, owner, until)
            entry.pinned = True
            self.room.forget(entry)
            self.far.remove(key)
            return True

    def unpin(self, key: ChunkKey, owner: str) -> bool:
        """End the owner's pin; returns whether the chunk may be evicted now."""
        with self.lock:
            free = self.pins.unpin(key, owner)
            if free:
                self._unpinned(key)
            return free

    def expire_pins(self, wall: float) -> None:
        with self.lock:
            for key in self.pins.expire(wall):
                self._unpinned(key)

    def take_events(self) -> Iterator[Event]:
        """What happened since the last call, in order."""
        while self.events:
            yield self.events.popleft()

    # With the lock held

    def _evict(self, entry: Entry) -> bool:
        """Evict a victim that its policy has let go; False if its slot stays until it is written."""
        if self.before_drop(entry):
            self.leaving += 1
            return False
        if entry.slot is not None:
            self._free(entry, entry.slot)
            self.memory.evictions += 1
            self._tell(Event(False, entry.key, MEMORY))
        self.tidy(entry)
        return True

    def _settle(self, entry: Entry) -> None:
        if not entry.pinned:
            self.room.admit(entry)

    def _unpinned(self, key: ChunkKey) -> None:
        entry = self.entries.get(key)
        if entry is not None:
            entry.pinned = False
            if entry.slot is not None:
                self.room.admit(entry)
            self.tidy(entry)

    def _free(self, entry: Entry, ref: SlotRef) -> None:
        entry.slot = None
        self.room.give(ref, entry.tenant, namespace_of(entry.key))

    def _wake(self, entry: Entry) -> None:
        waiters, entry.waiters = entry.waiters, []
        for waiter in waiters:
            waiter(entry)

    def _is_held(self, key: bytes) -> bool:
        entry = self.entries.get(ChunkKey(key))
        return entry is not None and entry.holds > 0

    def _tell(self, event: Event) -> None:
        self.copies[event.tier] += 1 if event.stored else -1
        if len(self.events) >= _EVENTS:
            self.events.popleft()
            self.counters.events_lost += 1
        self.events.append(event)


def _let_go(entry: Entry) -> bool:
    return False


def _never(key: bytes) -> bool:
    return False
