"""The store: looks prefixes up, lends and reserves slots, moves chunks between the arena and slower tiers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import itemgetter

from cache.arena import Arena, SlotRef
from cache.borrows import Borrows
from cache.codecs import registry
from cache.codecs.codec import Codec
from cache.counters import MEMORY, StoreStats, TierStats
from cache.economy import Decision, Economy, Segment
from cache.fetch import Fetcher
from cache.index import Entry
from cache.inventory import Inventory
from cache.keys import ChunkKey, Namespace, namespace_of
from cache.lane import Lane, MakeLane
from cache.layout import KVLayout
from cache.lease import BorrowState, Lease, Reservation
from cache.ledger import Event, Ledger
from cache.link import Link
from cache.linking import connected
from cache.namespaces import OpenNamespaces
from cache.refill import Refill
from cache.relocate import Relocator
from cache.save import Saver
from cache.settings import StoreSettings
from cache.tiers.build import TierPlan, plan_tiers

_EXPLORE_SECONDS = 5.0
_FREE_SHARE = 0.1
"""Part of the arena kept free or on its way out, where victims have to be written before they go."""


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
        tiers: Sequence[TierPlan] | None = None,
        make_lane: MakeLane = Lane,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`tiers`, fastest first, replace those that the settings name; `make_lane` the threads of transfers.

        Raises ValueError for settings that cannot work, OSError if the arena's memory or the file tier's
        directory cannot be had. A server that does not answer is no error.
        """
        self.layout = layout
        self.settings = settings
        self.chunk_tokens = settings.chunk_blocks * layout.block_tokens
        self.chunk_bytes = settings.chunk_blocks * layout.block_bytes
        self.economy = Economy()
        self._clock = clock
        self._wall = wall
        self._namespaces = OpenNamespaces(layout.fingerprint())
        self._borrows = Borrows()
        plans = tiers
        if plans is None:
            plans = plan_tiers(settings, self.chunk_bytes, lambda digest: self._ledger.tenant(digest))
        elements = settings.chunk_blocks * layout.layers * layout.page_elements
        connect = partial(
            connected,
            self._namespaces,
            self.economy,
            self._owners,
            elements,
            make_lane=make_lane,
            clock=clock,
        )
        links = self._links = {plan.tier.name: connect(plan) for plan in plans}
        self.arena = Arena(settings.memory.bytes, self.chunk_bytes, prefault=settings.memory.prefault)
        ledger = self._ledger = Ledger(self.arena, settings.memory.policy, settings, self._namespaces.tenant)
        blocks = settings.chunk_blocks
        self._saver = Saver(ledger, links, layout, blocks, codec_for=self._codec_for, wall=wall)
        self._fetcher = Fetcher(
            ledger,
            links,
            layout,
            blocks,
            exact=self._namespaces.exact,
            make=registry.make,
            arrived=self._arrived,
            miss_memory_seconds=settings.miss_memory_seconds,
            clock=clock,
            wall=wall,
        )
        self._relocator = Relocator(self, ledger, self._saver, links)
        self._inventory = Inventory(ledger, links, self._namespaces, settings)
        ledger.before_drop = self._saver.before_drop
        ledger.unbounded = frozenset(name for name, link in links.items() if link.policy is None)
        for link in links.values():
            if link.policy is not None:
                link.reads.submit(partial(self._saver.index, link))

    def open_namespace(self, namespace: Namespace, codec: Codec | None = None) -> bytes:
        """Tell the store of a namespace before its first key; returns its digest. Idempotent.

        `codec` replaces the tiers' codec for it. Raises ValueError if the namespace is of another layout, the
        codec leaves tokens out, or it is lossy and the namespace exact.
        """
        streams = any(link.streamer is not None for link in self._links.values())
        return self._namespaces.open(namespace, codec, streams=streams)

    def close_namespace(self, digest: bytes) -> None:
        """Let go of what was said of a namespace; its chunks stay, and it may be opened again."""
        self._namespaces.close(digest)

    # Reading

    def lookup(self, keys: Sequence[ChunkKey], *, owner: str, seconds: float | None = None) -> Lease:
        """Borrow the longest prefix of `keys` that is in the arena, and learn how much more other tiers have.

        The lease ends after `seconds` (default `lease_seconds`) unless released before. What is known to be
        in slower tiers (`lease.known`) is not on its way yet: call `fetch`.
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
                    self._forget(entry)
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
            lease.known = self._known(keys, ready, wall) if self._links else ready
            if lease.known > ready and len(ledger.far):
                for key in reversed(keys[ready : lease.known]):
                    ledger.far.touch(key)
            ledger.counters.lookups += 1
            ledger.counters.asked += len(keys)
            ledger.memory.hits += ready
            self._borrows.lend(lease)
        return lease

    def verified(self, lease: Lease) -> int:
        """How many leading ready chunks hold the bytes that were saved, found out by hashing them.

        The first one that does not is dropped at once, or when nobody holds it any more; the next lookup
        finds its copy in a slower tier, or saves it anew. What came from another tier was verified on its way
        in. Raises BorrowEnded.
        """
        for number, (ref, tier) in enumerate(zip(lease.slots(), lease.sources, strict=False)):
            if tier == MEMORY and not self.arena.verify(ref):
                self._ledger.discard(lease.entries[number])
                return number
        return lease.ready

    def fetch(
        self,
        lease: Lease,
        *,
        seconds: float,
        chunks: int | None = None,
        tokens: int | None = None,
        probe: bool = True,
        promote: bool = True,
    ) -> None:
        """Start to bring the lease's prefix from slower tiers into the arena; `lease.done` tells when it
        ended.

        At most `chunks` leading chunks, for at most `seconds`; then the lease is done with what has arrived,
        and the rest goes on into the arena for later. `probe` also asks shared tiers for chunks that this
        process knows nothing of, such as those of another worker; `promote` copies what is found to faster
        tiers that want it. With `tokens`, the length of the prompt, what asking has found is loaded only if
        that pays. Does nothing while a fetch for the lease is under way.
        """
        limit = len(lease.keys) if chunks is None else min(chunks, len(lease.keys))
        with self._ledger.lock:
            if lease.state is not BorrowState.HELD or lease.fetch is not None or lease.ready >= limit:
                return
            lease.settled.clear()
            deadline = self._clock() + seconds
            worth = None if tokens is None else partial(self._worth, lease, tokens)
            lease.fetch = self._fetcher.start(
                lease, limit, deadline, probe=probe, promote=promote, worth=worth
            )

    def settle(self, lease: Lease) -> bool:
        """See `Lease.done`."""
        if lease.fetch is None:
            return True
        with self._ledger.lock:
            fetch = lease.fetch
            if fetch is not None and fetch.open and self._clock() >= fetch.deadline:
                self._ledger.counters.late_fetches += 1
                self._fetcher.stop(fetch)
            if fetch is not None and not fetch.open:
                lease.fetch = None
            return lease.fetch is None

    def coming(self, lease: Lease, start: int) -> list[tuple[SlotRef, str]]:
        """Slots and tiers of the chunks from `start` on that the lease's fetch is bringing: each slot is
        sealed once its bytes have come and were verified.

        Whoever copies them waits for that with `Segment.sealed`; a load that fails gives its slot back, which
        `Segment.current` tells. Empty unless all that the fetch was asked for is on its way.
        """
        with self._ledger.lock:
            fetch = lease.fetch
            return self._fetcher.coming(fetch, start) if fetch is not None and fetch.open else []

    def segments(self, lease: Lease) -> list[Segment]:
        """Where the known prefix of a lease lies, run by run: what `Economy.choose` takes."""
        lies = [(MEMORY, self.chunk_bytes)] * lease.ready
        find, names = self._ledger.entries.get, list(self._links)
        with self._ledger.lock:
            for key in lease.keys[lease.ready : lease.known]:
                entry, place = find(key), (MEMORY, self.chunk_bytes)
                if entry is not None and entry.slot is None:
                    for name in names:
                        if name in entry.places:
                            place = name, entry.places[name].nbytes
                            break
                lies.append(place)
        runs: list[Segment] = []
        for name, run in groupby(lies, itemgetter(0)):
            sizes = [nbytes for _, nbytes in run]
            runs.append(Segment(name, len(sizes), sum(sizes)))
        return runs

    def decide(self, lease: Lease, tokens: int) -> Decision:
        """How many of the lease's known chunks to load for a prompt of `tokens`; see `Economy.choose`."""
        return self.economy.choose(tokens, self.segments(lease), self.chunk_tokens)

    def refill(self, namespace: bytes, seconds: float) -> bool:
        """Bring what was used last of a namespace from files into memory, as far as `memory.refill` says.

        For a start: waits `seconds` at most, then it goes on in the background. Whether it has ended.
        """
        link = next((link for link in self._links.values() if link.policy and link.tier.shared), None)
        share = self.settings.memory.refill
        if link is None or not share:
            return True
        chunks = int(share * self.arena.data_bytes) // self.chunk_bytes
        refill = Refill(link, namespace, self._ledger, self._fetcher, chunks)
        return refill.start() and refill.ended.wait(seconds)

    def try_out(self, lease: Lease, decision: Decision) -> None:
        """Bring the chunks that a decision wants tried out into memory, with nobody waiting for them."""
        if decision.explore:
            end = max(lease.ready, decision.chunks) + decision.explore
            with self.lookup(lease.keys[:end], owner="explore") as trial:
                self.fetch(trial, seconds=_EXPLORE_SECONDS, probe=False)

    def _worth(self, lease: Lease, tokens: int, limit: int, tier: str, nbytes: int) -> int:
        """How many leading chunks to load now that chunks of `nbytes` were found to follow in `tier`, taking
        it that all up to `limit` do. The lock is held."""
        runs = self.segments(lease)
        more = limit - lease.known
        decision = self.economy.choose(tokens, [*runs, Segment(tier, more, more * nbytes)], self.chunk_tokens)
        lease.decision = decision
        self.try_out(lease, decision)
        return decision.chunks

    # Writing

    def reserve(self, keys: Sequence[ChunkKey], *, first: int = 0) -> Reservation:
        """Slots to save chunks into. `first` is the place of `keys[0]` in its sequence, in chunks.

        Evicts what the policy gives up. Chunks that there is no room for get no slot.
        """
        now = self._clock()
        slots: list[SlotRef | None] = [None] * len(keys)
        reservation = Reservation(self, keys, slots, now + self.settings.reserve_seconds)
        ledger = self._ledger
        with ledger.lock:
            self._expire(now)
            find = ledger.entries.get
            wanted: dict[Entry, int] = {}
            for number, key in enumerate(keys):
                entry = find(key) or ledger.entry(key)
                if entry.slot is None and entry.landing is None:
                    wanted.setdefault(entry, number)
            entries = list(wanted)
            given = ledger.begin_all(entries)
            reservation.entries = entries[:given]
            for entry in reservation.entries:
                number = wanted[entry]
                slots[number] = entry.landing
                entry.position = (first + number) * self.chunk_tokens
            if given < len(entries):
                ledger.memory.dropped += len(keys) - wanted[entries[given]]
                for entry in entries[given:]:
                    ledger.tidy(entry)
            if reservation.entries:
                self._borrows.lend(reservation)
        return reservation

    def land(self, reservation: Reservation, written: Sequence[bool] | None) -> int:
        """See `Reservation.commit`."""
        ledger = self._ledger
        with ledger.lock:
            if not self._borrows.take_back(reservation, BorrowState.RELEASED):
                return 0
            expires = None if self.settings.ttl_seconds is None else self._wall() + self.settings.ttl_seconds
            left_out = (
                set()
                if written is None
                else {key for key, there in zip(reservation.keys, written, strict=True) if not there}
            )
            sealed = self.arena.sealed
            landed: list[Entry] = []
            for entry in reversed(reservation.entries):
                ref = entry.landing
                if ref is None or entry.key in left_out:
                    ledger.fail(entry)
                elif sealed(ref) is None:
                    ledger.counters.unsealed += 1
                    ledger.fail(entry)
                else:
                    entry.expires = expires
                    entry.origin = MEMORY
                    landed.append(entry)
            ledger.land_all(landed)
            reservation.entries.clear()
            ledger.memory.saves += len(landed)
            ledger.memory.written_bytes += len(landed) * self.chunk_bytes
            if self._links:
                landed.reverse()
                self._saver.saved(landed)
                if self._saver.writes_back:
                    ledger.replenish(_FREE_SHARE)
        return len(landed)

    def touch(self, keys: Sequence[ChunkKey]) -> None:
        """The chunks were used: call it with a request's whole prefix when the request has ended."""
        with self._ledger.lock:
            for key in reversed(keys):
                entry = self._ledger.entries.get(key)
                if entry is not None:
                    self._ledger.room.touch(entry)
                    self._ledger.far.touch(key)

    # Control: what operators ask for. `prefetch`, `move` and `recode` block, everything else does not.

    @property
    def relocation(self) -> Relocator:
        """`prefetch`, `move` and `recode`."""
        return self._relocator

    def clear(self, *, keys: Sequence[ChunkKey] | None = None, namespace: bytes | None = None) -> int:
        """Forget chunks in every tier: of `keys`, of a namespace, or all. Returns how many were known.

        No lookup of this process finds them from here on; shared tiers are purged in the background, also of
        what this process did not know of. Other processes that have them in memory keep them.
        """
        ledger = self._ledger
        with ledger.lock:
            if keys is not None:
                entries = [entry for key in keys if (entry := ledger.entries.get(key)) is not None]
            else:
                entries = [
                    entry for key, entry in ledger.entries.items() if namespace in (None, namespace_of(key))
                ]
            for name, link in self._links.items():
                if keys is None:
                    for digest in self._namespaces.digests(namespace):
                        link.writes.submit(partial(self._saver.purge, link, digest))
                else:
                    # What lies in a shared tier need not be known here.
                    known = [entry.key for entry in entries if name in entry.places]
                    self._saver.remove(link, list(keys) if link.tier.shared else known)
            for entry in entries:
                ledger.clear(entry)
        return len(entries)

    @property
    def inventory(self) -> Inventory:
        """Which chunks there are, and who has how much of what."""
        return self._inventory

    def health(self) -> dict[str, bool]:
        """Whether each tier answers, as far as its last operations tell."""
        return {MEMORY: True} | {name: link.available() for name, link in self._links.items()}

    def pin(self, keys: Iterable[ChunkKey], owner: str, seconds: float) -> int:
        """Keep chunks from eviction on behalf of `owner`, for `seconds`; returns how many are known.

        In files that binds other processes on the same directory too, as soon as the pins have been written
        there, in the background.
        """
        until = self._wall() + seconds
        pinned = [key for key in keys if self._ledger.pin(key, owner, until)]
        for link in self._links.values():
            if link.pins is not None and pinned:
                link.writes.submit(partial(link.pins.pin, pinned, owner, until))
        return len(pinned)

    def unpin(self, keys: Iterable[ChunkKey], owner: str) -> int:
        """End the owner's pins, also those that a process before this one set in files; returns how many
        chunks nobody of this process pins any more."""
        wanted = list(keys)
        for link in self._links.values():
            if link.pins is not None:
                link.writes.submit(partial(link.pins.unpin, wanted, owner))
        return sum(self._ledger.unpin(key, owner) for key in wanted)

    def streamed_levels(self) -> dict[str, dict[str, int]]:
        """Chunks read at each level, by the tiers that choose among levels."""
        return {
            name: dict(link.streamer.chunks)
            for name, link in self._links.items()
            if link.streamer is not None
        }

    def take_events(self) -> list[Event]:
        """Chunks stored in and removed from tiers since the last call, in order."""
        return list(self._ledger.take_events())

    def stats(self) -> StoreStats:
        """Counters and fill; a copy."""
        ledger = self._ledger
        with ledger.lock:
            self._expire(self._clock())
            leases = self._borrows.leases()
            memory = TierStats(
                counters=ledger.memory.copy(),
                chunks=ledger.copies[MEMORY],
                used_bytes=self.arena.used,
                capacity_bytes=self.arena.capacity,
                queued=0,
                available=True,
            )
            return StoreStats(
                counters=replace(ledger.counters),
                economy=replace(self.economy.counters),
                tiers={MEMORY: memory}
                | {name: link.stats(ledger.copies[name]) for name, link in self._links.items()},
                tenants=dict(ledger.room.tenants()),
                leases=leases,
                reservations=len(self._borrows) - leases,
                held_chunks=ledger.held,
                pinned_chunks=len(ledger.pins),
                known_chunks=len(ledger.entries),
                far_chunks=len(ledger.far),
            )

    def close(self) -> None:
        """End every borrow, finish or drop what is queued, stop the threads, give the memory back."""
        with self._ledger.lock:
            for borrow in self._borrows:
                self.end(borrow, BorrowState.EXPIRED)
        ended = [link.close() for link in self._links.values()]
        if all(ended):
            self.arena.close()

    # Borrows

    def end(self, borrow: Lease | Reservation, state: BorrowState) -> None:
        """See `Lease.release` and `Reservation.abort`."""
        ledger = self._ledger
        with ledger.lock:
            if not self._borrows.take_back(borrow, state):
                return
            if isinstance(borrow, Lease):
                if borrow.fetch is not None:
                    self._fetcher.stop(borrow.fetch)
                    borrow.fetch = None
                for entry in borrow.entries:
                    ledger.unhold(entry)
            else:
                for entry in borrow.entries:
                    ledger.fail(entry)
            borrow.entries.clear()

    def _expire(self, now: float) -> None:
        """End what is due, forget what is too much. Whatever looks or needs room calls it, no timer."""
        counters = self._ledger.counters
        for borrow in self._borrows.due(now):
            if isinstance(borrow, Lease):
                counters.expired_leases += 1
            else:
                counters.expired_reservations += 1
            self.end(borrow, BorrowState.EXPIRED)
        if self._ledger.pins:
            self._ledger.expire_pins(self._wall())
        self._ledger.forget_far(self.settings.far_chunks)

    # What links, fetches and saves ask

    def _codec_for(self, link: Link, key: ChunkKey) -> Codec:
        return self._namespaces.codec(key, link.codec)

    def _arrived(self, entry: Entry, tier: str) -> None:
        # Lossy KV that was decoded is not encoded again: every generation would lose more.
        if self._namespaces.exact(entry.key):
            self._saver.arrived(entry, tier)

    def _known(self, keys: Sequence[ChunkKey], ready: int, wall: float) -> int:
        find = self._ledger.entries.get
        for number in range(ready, len(keys)):
            entry = find(keys[number])
            if entry is None or (entry.slot is None and not entry.places and not entry.fetching):
                return number
            if entry.expires is not None and entry.expires <= wall:
                return number
        return len(keys)

    def _forget(self, entry: Entry) -> None:
        """Forget an expired chunk everywhere."""
        for name in entry.places:
            self._saver.remove(self._links[name], [entry.key])
        self._ledger.clear(entry)

    def _owners(self, key: bytes) -> tuple[str, bytes]:
        namespace = namespace_of(ChunkKey(key))
        return self._ledger.tenant(namespace), namespace
