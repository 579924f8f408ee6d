"""S3-FIFO (Yang et al., SOSP 2023): three queues, no order to maintain on a hit.

New chunks enter a small queue of a tenth of the bytes and leave it soon unless they were used again; then
they live in the main queue, a clock with two bits. A ghost queue of keys lets a chunk that comes back enter
the main queue at once. One long prompt that is never repeated thus flows through the small queue and disturbs
nobody.
"""

from __future__ import annotations

from collections import OrderedDict

from cache.policies.policy import Protected

_SMALL_SHARE = 0.1
_MAX_FREQUENCY = 3


class _Item:
    __slots__ = ("frequency", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.frequency = 0


class S3FIFO:
    """Scan-resistant FIFO queues. The ghost queue remembers as many bytes' worth of keys as the main queue
    may hold."""

    def __init__(self, capacity: int) -> None:
        self._small_target = int(capacity * _SMALL_SHARE)
        self._ghost_target = capacity - self._small_target
        self._small: OrderedDict[bytes, _Item] = OrderedDict()
        self._main: OrderedDict[bytes, _Item] = OrderedDict()
        self._ghost: OrderedDict[bytes, int] = OrderedDict()
        self._small_bytes = 0
        self._ghost_bytes = 0

    def insert(self, key: bytes, size: int) -> None:
        if key in self._small or key in self._main:
            self.touch(key)
            return
        ghost = self._ghost.pop(key, None)
        if ghost is not None:
            self._ghost_bytes -= ghost
            self._main[key] = _Item(size)
        else:
            self._small[key] = _Item(size)
            self._small_bytes += size

    def touch(self, key: bytes) -> None:
        item = self._small.get(key) or self._main.get(key)
        if item is not None and item.frequency < _MAX_FREQUENCY:
            item.frequency += 1

    def remove(self, key: bytes) -> None:
        item = self._small.pop(key, None)
        if item is not None:
            self._small_bytes -= item.size
        else:
            self._main.pop(key, None)

    def evict(self, protected: Protected) -> bytes | None:
        victim = None
        if self._small_bytes > self._small_target or not self._main:
            victim = self._evict_small(protected)
        return victim or self._evict_main(protected) or self._evict_small(protected)

    def _evict_small(self, protected: Protected) -> bytes | None:
        for _ in range(len(self._small)):
            key, item = self._small.popitem(last=False)
            if protected(key):
                self._small[key] = item
                continue
            self._small_bytes -= item.size
            if item.frequency:
                item.frequency = 0
                self._main[key] = item
                continue
            self._remember(key, item.size)
            return key
        return None

    def _evict_main(self, protected: Protected) -> bytes | None:
        # Frequencies only fall, so the rounds are bounded.
        for _ in range((_MAX_FREQUENCY + 1) * len(self._main)):
            key, item = self._main.popitem(last=False)
            if not protected(key) and item.frequency == 0:
                return key
            if not protected(key):
                item.frequency -= 1
            self._main[key] = item
        return None

    def _remember(self, key: bytes, size: int) -> None:
        self._ghost[key] = size
        self._ghost_bytes += size
        while self._ghost_bytes > self._ghost_target and self._ghost:
            _, dropped = self._ghost.popitem(last=False)
            self._ghost_bytes -= dropped

    def __contains__(self, key: object) -> bool:
        return key in self._small or key in self._main

    def __len__(self) -> int:
        return len(self._small) + len(self._main)
