"""Bringing chunks of slower tiers into the arena, for leases that wait and for promotion."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from cache.arena import SlotRef
from cache.counters import MEMORY
from cache.index import Entry, Place
from cache.keys import ChunkKey
from cache.ladder import Ahead
from cache.landing import FrameLanding, MakeCodec
from cache.layout import KVLayout
from cache.lease import BorrowState, Lease
from cache.ledger import Ledger
from cache.link import Link
from cache.tiers.tier import Fault, Found

_FIRST_WINDOW = 4
"""Chunks asked for first when a tier's contents are unknown: most probes find nothing."""
_KEPT_ON_FAULT = frozenset({Fault.VERSION, Fault.ABSENT})
"""Faults of one frame that do not call for deleting it: a newer version reads it, or there is none."""


Worth = Callable[[int, str, int], int]
"""From how many chunks are wanted, the tier that has been found to hold the next ones and the bytes of one of
them: how many to load."""


class Order(NamedTuple):
    """What the loads of one fetch have in common."""

    began: float
    deadline: float
    promote: bool
    """Whether faster tiers get a copy."""


class Load:
    """One chunk on its way into `ref`."""

    __slots__ = ("entry", "following", "order", "ref", "tried")

    def __init__(self, entry: Entry, ref: SlotRef, order: Order, following: int = 0) -> None:
        self.entry = entry
        self.ref = ref
        self.order = order
        self.following = following
        """Chunks that the fetch may bring after this one: as many as are wanted, found yet or not."""
        self.tried: tuple[str, ...] = ()


class Fetch:
    """What is under way for one lease."""

    __slots__ = (
        "deadline",
        "kept",
        "landed",
        "lease",
        "limit",
        "open",
        "order",
        "pending",
        "sources",
        "watched",
        "worth",
    )

    def __init__(self, lease: Lease, limit: int, order: Order) -> None:
        self.lease = lease
        self.limit = limit
        self.order = order
        self.deadline = order.deadline
        self.pending = 0
        """Loads and probes whose end is awaited."""
        self.open = True
        self.kept: set[Entry] = set()
        """In the arena beyond the ready prefix, held so that they are still there when it gets to them."""
        self.watched: set[ChunkKey] = set()
        self.sources: dict[ChunkKey, str] = {}
        self.landed: Callable[[Entry], None] = lambda entry: None
        """What the entries that it waits for call."""
        self.worth: Worth | None = None


class Fetcher:
    """Plans loads and probes, runs them on the links' lanes, hands arrivals to the leases that wait."""

    def __init__(
        self,
        ledger: Ledger,
        links: Mapping[str, Link],
        layout: KVLayout,
        blocks: int,
        *,
        exact: Callable[[ChunkKey], bool],
        make: MakeCodec,
        arrived: Callable[[Entry, str], None],
        miss_memory_seconds: float,
        clock: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`links` are fastest first. `arrived` is called with the lock held for each chunk and its tier."""
        self._ledger = ledger
        self._links = links
        self._fastest = next(iter(links.values()), None)
        self._layout = layout
        self._blocks = blocks
        self._exact = exact
        self._make = make
        self._arrived = arrived
        self._miss_memory_seconds = miss_memory_seconds
        self._clock = clock
        self._wall = wall
        self._moved: dict[Fetch, None] = {}
        """Those that got or lost something since `_hand_over`."""

    def start(
        self,
        lease: Lease,
        limit: int,
        deadline: float,
        *,
        probe: bool,
        promote: bool,
        worth: Worth | None = None,
    ) -> Fetch | None:
        """Begin; None if there is nothing to wait for. `worth` is asked when chunks beyond the known prefix
        were found. The lock is held."""
        fetch = Fetch(lease, limit, Order(self._clock(), deadline, promote))
        fetch.worth = worth
        fetch.landed = partial(self._landed, fetch)
        self._plan(fetch, limit)
        if probe:
            self._probe(fetch)
        self._moved[fetch] = None
        self._hand_over()
        return fetch if fetch.open else None

    def stop(self, fetch: Fetch) -> None:
        """The lease waits no longer; transfers go on into the arena. The lock is held. Idempotent."""
        if fetch.open:
            fetch.open = False
            for entry in fetch.kept:
                self._ledger.unhold(entry)
            fetch.kept.clear()
            fetch.lease.ended = self._clock()
            fetch.lease.settled.set()

    def coming(self, fetch: Fetch, start: int) -> list[tuple[SlotRef, str]]:
        """All chunks from `start` on that the fetch is to bring: the slots that they lie in, or are being
        read into, and from where. Up to the first that memory has and that is damaged; empty if any is not on
        its way. The lock is held."""
        lease, ledger = fetch.lease, self._ledger
        found: list[tuple[SlotRef, str]] = []
        for key in lease.keys[start : fetch.limit]:
            entry = ledger.entries.get(key)
            if entry is None or key not in fetch.watched:
                return []
            ref = entry.slot or (entry.landing if entry.fetching else None)
            if ref is None:
                return []
            source = entry.origin if entry.slot is None else fetch.sources.get(key, MEMORY)
            if entry.slot is not None and source == MEMORY and not ledger.arena.verify(ref):
                ledger.discard(entry)
                break
            found.append((ref, source))
        return found

    def refill(self, link: Link, keys: Sequence[ChunkKey], seconds: float) -> bool:
        """Bring chunks of one namespace that nobody waits for into free slots; whether all had room. On the
        link's lane."""
        ledger, now = self._ledger, self._clock()
        with ledger.lock:
            entries = [
                entry
                for key in keys
                if (entry := ledger.entries.get(key)) is not None
                and link.name in entry.places
                and entry.slot is None
                and entry.landing is None
            ]
            given = ledger.begin_all(entries, evict=False)
            order = Order(now, now + seconds, promote=False)
            loads: list[Load] = []
            for entry in entries[:given]:
                if (ref := entry.landing) is not None:
                    entry.fetching = True
                    entry.origin = link.name
                    loads.append(Load(entry, ref, order))
        if loads:
            self._run(link, loads)
        return given == len(entries)

    # With the lock held

    def _plan(self, fetch: Fetch, limit: int) -> None:
        """Start loading every chunk of the known prefix, up to `limit`, that is in no slot and not on its
        way."""
        lease, ledger = fetch.lease, self._ledger
        find, wall, watched = ledger.entries.get, self._wall(), fetch.watched
        links = [link for link in self._links.values() if link.available()]
        wanted: dict[Entry, tuple[int, Link]] = {}
        end = limit
        for number in range(lease.ready, limit):
            key = lease.keys[number]
            entry = find(key)
            if entry is None or (entry.expires is not None and entry.expires <= wall):
                end = number
                break
            if key in watched:
                continue
            if entry.slot is not None:
                ledger.hold(entry)
                fetch.kept.add(entry)
                watched.add(key)
            elif entry.landing is None:
                link = _first(links, entry)
                if link is None:
                    end = number
                    break
                wanted.setdefault(entry, (number, link))
            elif entry.fetching:
                self._watch(fetch, entry)
            else:  # being computed by a request that runs now: that may take long
                end = number
                break
        entries = list(wanted)
        given = ledger.begin_all(entries)
        if given < len(entries):
            end = wanted[entries[given]][0]
        lease.known = max(lease.known, end)
        self._order(fetch, entries[:given], wanted)

    def _order(
        self, fetch: Fetch, entries: Sequence[Entry], wanted: Mapping[Entry, tuple[int, Link]]
    ) -> None:
        """Start loading entries that have just got slots. `wanted`: their places in the lease, links."""
        batches: dict[Link, list[Load]] = {}
        order, last = fetch.order, fetch.limit - 1
        for entry in entries:
            number, link = wanted[entry]
            ref = entry.landing
            if ref is None:
                continue
            entry.fetching = True
            entry.origin = link.name
            self._watch(fetch, entry)
            batches.setdefault(link, []).append(Load(entry, ref, order, last - number))
        for link, loads in batches.items():
            self._submit(link, loads)

    def _watch(self, fetch: Fetch, entry: Entry) -> None:
        """Wait for a chunk that is on its way."""
        fetch.watched.add(entry.key)
        fetch.pending += 1
        entry.waiters.append(fetch.landed)

    def _submit(self, link: Link, loads: Sequence[Load]) -> None:
        size = link.settings.batch
        for first in range(0, len(loads), size):
            batch = loads[first : first + size]
            if not link.reads.submit(partial(self._run, link, batch)):
                for load in batch:
                    self._failed(load, link, Fault.TIMEOUT)

    def _landed(self, fetch: Fetch, entry: Entry) -> None:
        fetch.pending -= 1
        if entry.slot is not None and fetch.open:
            fetch.sources[entry.key] = entry.origin
            self._ledger.hold(entry)
            fetch.kept.add(entry)
        self._moved[fetch] = None

    def _hand_over(self) -> None:
        """Tell leases what has become of their chunks: once for many chunks, at the end of what changed
        them."""
        while self._moved:
            self._advance(self._moved.popitem()[0])

    def _advance(self, fetch: Fetch) -> None:
        """Give the lease what has become contiguous; end the fetch when nothing is awaited."""
        lease, ledger = fetch.lease, self._ledger
        if not fetch.open:
            return
        if lease.state is not BorrowState.HELD:
            self.stop(fetch)
            return
        find, sources, kept = ledger.entries.get, fetch.sources, fetch.kept
        came: list[str] = []
        for key in lease.keys[lease.ready : fetch.limit]:
            entry = find(key)
            if entry is None or entry.slot is None:
                break
            if entry in kept:  # what held it for the fetch holds it for the lease from now on
                kept.remove(entry)
            else:
                ledger.hold(entry)
            came.append(sources.get(key, MEMORY))
            lease.entries.append(entry)
            lease.refs.append(entry.slot)
        lease.sources += came
        for source, number in Counter(came).items():
            counters = ledger.memory if source == MEMORY else self._links[source].counters
            counters.hits += number
        if not fetch.pending:
            self.stop(fetch)

    def _probe(self, fetch: Fetch) -> None:
        """Ask shared tiers for chunks beyond the known prefix."""
        start = fetch.lease.known
        if start >= fetch.limit:
            return
        for link in self._links.values():
            if link.tier.shared and link.available() and not link.recently_missed(fetch.lease.keys[start]):
                fetch.pending += 1
                if not link.reads.submit(partial(self._ask, link, fetch, start)):
                    fetch.pending -= 1

    def _failed(self, load: Load, link: Link, fault: Fault) -> None:
        """Try the next tier that has the chunk, or give up on it."""
        load.tried += (link.name,)
        entry = load.entry
        if not fault.breaks:
            if link.policy is not None:
                link.policy.remove(entry.key)
            self._ledger.displaced(entry, link.name)
            if fault not in _KEPT_ON_FAULT:
                link.writes.submit(partial(link.delete, [entry.key]))
        others = (
            other for name, other in self._links.items() if name not in load.tried and other.available()
        )
        other = _first(others, entry)
        in_time = self._clock() < load.order.deadline
        if other is None or not in_time or not other.reads.submit(partial(self._run, other, [load])):
            self._ledger.fail(entry)

    # On the lanes

    def _run(self, link: Link, loads: Sequence[Load]) -> None:
        now = self._clock()
        live = [load for load in loads if now < load.order.deadline]
        if len(live) < len(loads):
            with self._ledger.lock:
                for load in loads:
                    if load not in live:
                        self._ledger.fail(load.entry)
                self._hand_over()
        if live:
            try:
                self._bring(link, live)
            except BaseException:
                with self._ledger.lock:
                    for load in live:
                        if load.entry.landing is load.ref:
                            self._ledger.fail(load.entry)
                    self._hand_over()
                raise

    def _bring(self, link: Link, live: Sequence[Load]) -> None:
        keys = [load.entry.key for load in live]
        landing = FrameLanding(
            self._ledger.arena,
            self._layout,
            self._blocks,
            keys,
            [load.ref for load in live],
            self._exact,
            wall=self._wall(),
            make=self._make,
        )
        faults, own_level = self._load(link, live, keys, landing)
        wall, name, ledger = self._wall(), link.name, self._ledger
        with ledger.lock:
            arrived: list[Load] = []
            for load, fault, header in zip(live, faults, landing.headers, strict=True):
                if fault is not None or header is None:
                    self._failed(load, link, fault or Fault.TORN)
                    continue
                entry = load.entry
                entry.position = header.position
                entry.expires = float(header.expires) if header.expires else None
                entry.origin = name
                if own_level and name in entry.places:
                    entry.places[name] = Place(header.head_bytes + header.payload_bytes, wall)
                arrived.append(load)
            # The last first: what came first is what a policy drops first.
            landed = [load.entry for load in reversed(arrived)]
            if link.policy is not None:
                touch = link.policy.touch
                for entry in landed:
                    touch(entry.key)
            ledger.land_all(landed)
            if link is not self._fastest:
                for load in arrived:
                    if load.order.promote:
                        self._arrived(load.entry, name)
            self._hand_over()

    def _load(
        self, link: Link, live: Sequence[Load], keys: list[ChunkKey], landing: FrameLanding
    ) -> tuple[list[Fault | None], bool]:
        """Load a batch; also whether that was at the level of its own namespace. See `cache.ladder`."""
        streamer = link.streamer
        ladder = streamer.ladder(keys) if streamer is not None else None
        if streamer is None or ladder is None:
            return link.load(keys, landing), True
        start = self._clock()
        ahead = Ahead(live[0].order.began, len(keys), live[-1].following)
        level = streamer.choose(ladder, ahead, start)
        faults = link.load([ladder.key(key, level) for key in keys], landing)
        if level != ladder.own and Fault.ABSENT in faults:
            # Not all of it was saved at that level, or some of it is gone by now.
            level, start = ladder.own, self._clock()
            faults = link.load(keys, landing)
        arrived = [
            header.frame_bytes
            for header, fault in zip(landing.headers, faults, strict=True)
            if header is not None and fault is None
        ]
        streamer.observe(ladder.rungs[level], arrived, self._clock() - start)
        return faults, level == ladder.own

    def _ask(self, link: Link, fetch: Fetch, start: int) -> None:
        """Probe in growing windows, loading what is found while the next window is asked for."""
        window, asked, limit = _FIRST_WINDOW, start, fetch.limit
        while fetch.open and asked < limit:
            keys = fetch.lease.keys[asked : min(asked + window, limit)]
            found = link.contains(keys)
            run = next((n for n, answer in enumerate(found) if isinstance(answer, Fault)), len(found))
            with self._ledger.lock:
                for key, answer in zip(keys[:run], found, strict=False):
                    if isinstance(answer, Found):
                        self._place(link, key, answer)
                if run < len(keys) and found[run] is Fault.ABSENT:
                    link.missed(keys[run], self._miss_memory_seconds)
                if run and asked == start and fetch.worth is not None:
                    nbytes = self._ledger.entry(keys[0]).places[link.name].nbytes
                    limit = min(limit, fetch.worth(limit, link.name, nbytes))
                if run and fetch.open:
                    self._plan(fetch, limit)
                    self._hand_over()
            if run < len(keys):
                break
            asked += len(keys)
            window *= 4
        with self._ledger.lock:
            fetch.pending -= 1
            self._moved[fetch] = None
            self._hand_over()

    def _place(self, link: Link, key: ChunkKey, found: Found) -> None:
        entry = self._ledger.entry(key)
        self._ledger.placed(entry, link.name, Place(found.nbytes, found.used))
        if link.policy is not None:
            link.policy.insert(key, found.nbytes)


def _first(links: Iterable[Link], entry: Entry) -> Link | None:
    """The first of the links whose tier has the chunk."""
    for link in links:
        if link.name in entry.places:
            return link
    return None
