"""What each worker's prefix cache holds, as far as one can tell from what was sent to it.

`CacheMirror` follows one worker: an LRU list of prefix hashes with the bytes of prompt that each stands for,
as large as the worker's cache. Where that size is a guess, what falls out stays in sight for a while
(`ghosts`): a hit there shows that the cache is larger than thought, a miss on a resident prefix that it is
smaller. A guess should rather be too large: prompts are sent to where they are thought to be cached, so
that a mistake in that direction is found out.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from operator import itemgetter
from typing import Final

from gateway.routing.discard import Discard
from gateway.routing.fingerprint import BOUNDS, Fingerprint
from gateway.routing.segments import RecentMap
from gateway.routing.tiers import DEVICE, SharedTiers

ENTRY_BYTES: Final = 208
"""Memory of one entry (CPython 3.11: ordered dict node and slot, the key), as the tests measure it."""
GHOST_SHARE: Final = 2.0
"""Ghosts kept, in multiples of the capacity."""
SHRINK: Final = 0.98
RECOVER: Final = 1.002
FIRST_STEP: Final = 0.2
SMALLEST_STEP: Final = 0.02
TURN: Final = 0.7
SMALLEST_CAPACITY: Final = 4096
EVICTIONS: Final = 1024
_SIZE: Final = itemgetter(1)
"""Of a prefix that was evicted."""

SLACK: Final = 2 * BOUNDS[1]
"""Bytes by which prediction and truth may differ because blocks and chunks end at different places."""


class CacheMirror:
    """The prefix cache of one worker. Sizes in bytes of prompt; at most `max_entries` hashes in all."""

    __slots__ = (
        "_discard",
        "_ghosts",
        "_ghosts_used",
        "_known",
        "_step",
        "_used",
        "capacity",
        "lower",
        "max_entries",
        "resident",
        "shared",
        "tiered",
    )

    def __init__(self, capacity: int, max_entries: int, shared: tuple[SharedTiers, ...] = ()) -> None:
        self.capacity = capacity
        self.max_entries = max(1, max_entries)
        self._known: int | None = None
        self.resident: RecentMap[int] = RecentMap()
        """Bytes of each prefix that is on the device; read only."""
        self._ghosts: RecentMap[int] = RecentMap()
        self._used = 0
        self._ghosts_used = 0
        self._step = -FIRST_STEP
        self._discard = Discard()
        self.lower: dict[int, int] = {}
        """Prefixes that by the engine's latest word are only in slower tiers of its own, with the tiers. A
        request that is on its way may have brought them to the device."""
        self.shared = shared
        """Tiers that this worker reads and others too."""
        self.tiered = bool(shared)
        """False: the worker has no slower tiers that we know of. Read only."""

    def __len__(self) -> int:
        return len(self.resident) + len(self._ghosts) + len(self.lower)

    @property
    def used(self) -> int:
        """Bytes of prompt thought to be resident."""
        return self._used

    def depth(self, prompt: Fingerprint) -> int:
        """How many of the prompt's prefixes are resident, counted from the shallowest."""
        hashes = prompt.hashes
        if hashes:
            shallowest = hashes[-1]
            for generation in self.resident.generations:
                if shallowest in generation:
                    if hashes[0] in self.resident.newest:
                        return len(hashes)
                    return len(hashes) - bisect_left(hashes, True, key=self.resident.__contains__)
        return 0

    def possible_depth(self, prompt: Fingerprint, depth: int) -> int:
        """What `depth` would be for a cache that had never evicted what is still in sight."""
        hashes = prompt.hashes
        ghosts, resident = self._ghosts, self.resident
        if depth == len(hashes) or not ghosts:
            return depth
        return len(hashes) - bisect_left(hashes, True, key=lambda h: h in resident or h in ghosts)

    def touch(self, prompt: Fingerprint, depth: int) -> None:
        """The worker computes the prompt, of which `depth` prefixes are resident: all become the newest."""
        hashes = prompt.hashes
        resident, ghosts = self.resident, self._ghosts
        fresh = len(hashes) - depth
        if self._discard.dictionaries:
            self._discard.step()
        if fresh:
            added = hashes[:fresh]
            sizes = prompt.sizes(depth)
            if ghosts:
                for key in added:
                    self._ghosts_used -= ghosts.pop(key) or 0
            self._used += sum(resident.add(added, sizes))
        try:
            resident.renew(hashes[fresh:] if fresh else hashes)
        except KeyError:  # a shallower prefix was taken out by the engine's word, a deeper one was not
            self._touch_each(prompt)
        if self._used > self.capacity or (fresh and len(self) > self.max_entries):
            self._evict()

    def _touch_each(self, prompt: Fingerprint) -> None:
        for key, size in zip(prompt.hashes, prompt.sizes(0), strict=True):
            self._used += sum(self.resident.add((key,), (size,)))
            self._ghosts_used -= self._ghosts.pop(key) or 0

    def forget(self, prompt: Fingerprint, depth: int) -> None:
        """What `touch(prompt, depth)` added was not computed after all."""
        for key in islice(prompt.hashes, len(prompt.hashes) - depth):
            if (size := self.resident.pop(key)) is not None:
                self._used -= size

    def correct(self, key: int, size: int, tiers: int) -> None:
        """The engine says in which tiers (`kv_blocks`) a prefix is."""
        resident = self.resident
        if tiers & DEVICE:
            self.lower.pop(key, None)
            if key not in resident:
                resident.put(key, size)
                self._used += size
                self._ghosts_used -= self._ghosts.pop(key) or 0
                if len(self) > self.max_entries:
                    self._evict()
            return
        self._used -= resident.pop(key) or 0
        if tiers:
            self.lower[key] = tiers
            self.tiered = True
            if len(self) > self.max_entries:
                self._evict()
        else:
            self.lower.pop(key, None)

    @property
    def has_lower(self) -> bool:
        """Could anything be loaded instead of computed?"""
        return bool(self.lower) or any(self.shared)

    def lower_depth(self, prompt: Fingerprint, depth: int) -> tuple[int, int]:
        """How many prefixes are cached if those beyond the `depth` resident ones may come from a slower tier,
        and the tiers of the deepest of them. By bisection, as what is deeper goes first there too."""
        hashes = prompt.hashes
        beyond = len(hashes) - depth
        if not beyond or not self._loadable(hashes[beyond - 1]):
            return depth, 0
        first = bisect_left(hashes, True, hi=beyond, key=self._loadable)
        return len(hashes) - first, self._tiers_of(hashes[first])

    def _loadable(self, key: int) -> bool:
        return key in self.lower or key in self.resident or any(s.get(key) for s in self.shared)

    def _tiers_of(self, key: int) -> int:
        tiers = self.lower.get(key, 0)
        for shared in self.shared:
            tiers |= shared.get(key)
        return tiers

    def missed_lower(self, prompt: Fingerprint, depth: int) -> None:
        """Prefixes deeper than `depth` turned out not to be in the slower tiers."""
        for key in islice(prompt.hashes, len(prompt.hashes) - depth):
            self.lower.pop(key, None)
            for shared in self.shared:
                shared.remove(key, shared.of)

    def clear(self) -> None:
        """The worker restarted, or says that its cache is empty."""
        for discarded in (*self.resident.take(), *self._ghosts.take(), self.lower):
            self._discard.add(discarded)
        self.lower = {}
        self._used = self._ghosts_used = 0

    def shed(self) -> bool:
        """Free some of what `clear` left behind; True while there is more."""
        if self._discard.dictionaries:
            self._discard.step()
        return bool(self._discard.dictionaries)

    def know_capacity(self, capacity: int) -> None:
        """The worker said how large its cache is. Learning only makes it smaller from now on, and never less
        than half, because answers and running requests take room in it too."""
        self._known = self.capacity = max(SMALLEST_CAPACITY, capacity)
        for discarded in self._ghosts.take():
            self._discard.add(discarded)
        self._ghosts_used = 0

    def rescale(self, factor: float) -> None:
        """A token turned out to be `factor` times as many bytes as thought."""
        self.capacity = max(SMALLEST_CAPACITY, int(self.capacity * factor))
        if self._known is not None:
            self._known = max(SMALLEST_CAPACITY, int(self._known * factor))

    def observe_hit(self, predicted: int, possible: int, actual: int) -> None:
        """Learn the capacity from one prompt; bytes thought resident, resident or ghost, and found there.

        A difference of less than a few chunks says nothing: the worker's blocks end elsewhere.
        """
        slack = SLACK + predicted // 16
        known = self._known
        if known is not None:
            if actual < predicted - slack:
                self.capacity = max(known // 2, int(self.capacity * SHRINK))
            elif predicted > slack and self.capacity < known:
                self.capacity = min(known, int(self.capacity * RECOVER) + 1)
        elif actual < predicted - slack:
            self._step_towards(-1)
        elif possible > predicted + slack and actual > predicted + slack:
            self._step_towards(1)

    def _step_towards(self, sign: int) -> None:
        """Bisection in the logarithm: stride while all evidence points one way, shorten it when it turns."""
        if sign * self._step < 0:
            self._step *= -TURN
            if abs(self._step) < SMALLEST_STEP:
                self._step = sign * SMALLEST_STEP
        self.capacity = max(SMALLEST_CAPACITY, int(self.capacity * (1.0 + self._step)))

    def _evict(self) -> None:
        """At most EVICTIONS at once, so that a bound which was lowered is reached over several requests."""
        resident, ghosts = self.resident, self._ghosts
        if (over := self._used - self.capacity) > 0:
            gone = resident.pop_oldest(EVICTIONS, over)
            in_bytes = sum(map(_SIZE, gone))
            self._used -= in_bytes
            if self._known is None:
                self._ghosts_used += in_bytes
                for key, size in gone:
                    ghosts.put(key, size)
        if (over := self._ghosts_used - int(self.capacity * GHOST_SHARE)) > 0:
            self._ghosts_used -= sum(map(_SIZE, ghosts.pop_oldest(EVICTIONS, over)))
        excess = min(EVICTIONS, len(self) - self.max_entries)
        if excess > 0:
            gone = ghosts.pop_oldest(excess)
            self._ghosts_used -= sum(map(_SIZE, gone))
            excess -= len(gone)
        while excess > 0 and self.lower:
            del self.lower[next(iter(self.lower))]
            excess -= 1
        if excess > 0:
            self._used -= sum(map(_SIZE, resident.pop_oldest(excess)))
