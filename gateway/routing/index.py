"""What each worker's prefix cache holds, as far as one can tell from what was sent to it.

`CacheMirror` follows one worker: an LRU list of prefix hashes with the bytes of prompt that each stands for,
as large as the worker's cache. What falls out of it stays in sight for a while (`ghosts`): a hit there shows
that the cache is larger than thought, a miss on a resident prefix that it is smaller.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, deque
from itertools import islice
from typing import Final

from gateway.routing.fingerprint import BOUNDS, Fingerprint

ENTRY_BYTES: Final = 208
"""Memory of one entry (CPython 3.11: ordered dict node and slot, the key), as the tests measure it."""
GHOST_SHARE: Final = 1.0
"""Ghosts kept, in multiples of the capacity."""
SHRINK: Final = 0.98
GROW: Final = 1.04
SMALLEST_CAPACITY: Final = 4096
EVICTIONS: Final = 1024

FIRST_SLACK: Final = 2 * BOUNDS[1]
"""Bytes by which prediction and truth may differ because blocks and chunks end at different places."""
STEPS: Final = [BOUNDS[i] - BOUNDS[i - 1] for i in range(len(BOUNDS) - 1, 0, -1)]
"""Bytes of each chunk, deepest first."""


class CacheMirror:
    """The prefix cache of one worker. Sizes in bytes of prompt; at most `max_entries` hashes in all."""

    __slots__ = ("_ghosts", "_ghosts_used", "_known", "_resident", "_used", "capacity", "max_entries")

    def __init__(self, capacity: int, max_entries: int) -> None:
        self.capacity = capacity
        self.max_entries = max(1, max_entries)
        self._known = False
        self._resident: OrderedDict[int, int] = OrderedDict()
        self._ghosts: OrderedDict[int, int] = OrderedDict()
        self._used = 0
        self._ghosts_used = 0

    def __len__(self) -> int:
        return len(self._resident) + len(self._ghosts)

    @property
    def used(self) -> int:
        """Bytes of prompt thought to be resident."""
        return self._used

    def depth(self, prompt: Fingerprint) -> int:
        """How many of the prompt's prefixes are resident, counted from the shallowest."""
        hashes = prompt.hashes
        resident = self._resident
        if not hashes or hashes[-1] not in resident:
            return 0
        return len(hashes) - bisect_left(hashes, True, key=resident.__contains__)

    def possible_depth(self, prompt: Fingerprint) -> int:
        """As `depth`, for a cache that had never evicted what is still in sight."""
        hashes = prompt.hashes
        ghosts, resident = self._ghosts, self._resident
        return len(hashes) - bisect_left(hashes, True, key=lambda h: h in resident or h in ghosts)

    def touch(self, prompt: Fingerprint, depth: int) -> None:
        """The worker computes the prompt, of which `depth` prefixes are resident: all become the newest."""
        hashes = prompt.hashes
        resident, ghosts = self._resident, self._ghosts
        fresh = len(hashes) - depth
        if fresh:
            added = hashes[:fresh]
            sizes = self._sizes(prompt)
            if not ghosts.keys().isdisjoint(added):
                for key in added:
                    self._ghosts_used -= ghosts.pop(key, 0)
            if resident.keys().isdisjoint(added):
                resident.update(zip(added, sizes, strict=False))
                self._used += prompt.covered(len(hashes)) - prompt.covered(depth)
            else:
                for key, size in zip(added, sizes, strict=False):
                    if key not in resident:
                        resident[key] = size
                        self._used += size
                    resident.move_to_end(key)
        deque(map(resident.move_to_end, islice(hashes, fresh, None)), maxlen=0)
        if self._used > self.capacity or len(resident) > self.max_entries:
            self._evict()
        if self._ghosts and len(resident) + len(self._ghosts) > self.max_entries:
            self._forget_ghosts()

    @staticmethod
    def _sizes(prompt: Fingerprint) -> list[int]:
        """Bytes that each prefix adds to the next shallower one, deepest first."""
        if not prompt.head_bytes:
            return STEPS[len(STEPS) - len(prompt.hashes) :]
        return [*STEPS[len(STEPS) + 1 - len(prompt.hashes) :], prompt.head_bytes]

    def forget(self, prompt: Fingerprint, depth: int) -> None:
        """What `touch(prompt, depth)` added was not computed after all."""
        for key in islice(prompt.hashes, len(prompt.hashes) - depth):
            if (size := self._resident.pop(key, None)) is not None:
                self._used -= size

    def clear(self) -> None:
        """The worker restarted, or says that its cache is empty."""
        self._resident.clear()
        self._ghosts.clear()
        self._used = self._ghosts_used = 0

    def know_capacity(self, capacity: int) -> None:
        """The worker said how large its cache is; nothing is learned about it from now on."""
        self._known = True
        self.capacity = max(SMALLEST_CAPACITY, capacity)
        self._evict()

    def observe_hit(self, predicted: int, possible: int, actual: int) -> None:
        """Learn the capacity from one prompt; bytes thought resident, resident or ghost, and found there.

        A difference of less than a chunk says nothing: the worker's blocks end elsewhere.
        """
        if self._known:
            return
        slack = FIRST_SLACK + predicted // 16
        if actual < predicted - slack:
            self.capacity = max(SMALLEST_CAPACITY, int(self.capacity * SHRINK))
        elif possible > predicted + slack and actual > predicted + slack:
            self.capacity = int(self.capacity * GROW)

    def _evict(self) -> None:
        """At most EVICTIONS at once: a cache that was found to be smaller shrinks over several requests."""
        resident, ghosts = self._resident, self._ghosts
        for _ in range(EVICTIONS):
            if not resident or (self._used <= self.capacity and len(resident) <= self.max_entries):
                break
            key, size = resident.popitem(last=False)
            self._used -= size
            ghosts[key] = size
            self._ghosts_used += size
        self._forget_ghosts()

    def _forget_ghosts(self) -> None:
        ghosts = self._ghosts
        room = int(self.capacity * GHOST_SHARE)
        spare = self.max_entries - len(self._resident)
        for _ in range(EVICTIONS):
            if not ghosts or (self._ghosts_used <= room and len(ghosts) <= spare):
                break
            self._ghosts_used -= ghosts.popitem(last=False)[1]
