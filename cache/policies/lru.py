"""Least recently used."""

from __future__ import annotations

from collections import OrderedDict

from cache.policies.policy import Protected


class LRU:
    """Evicts what was not used for longest. Protected chunks keep their place in the order."""

    def __init__(self, capacity: int) -> None:
        self._sizes: OrderedDict[bytes, int] = OrderedDict()

    def insert(self, key: bytes, size: int) -> None:
        self._sizes[key] = size
        self._sizes.move_to_end(key)

    def touch(self, key: bytes) -> None:
        if key in self._sizes:
            self._sizes.move_to_end(key)

    def remove(self, key: bytes) -> None:
        self._sizes.pop(key, None)

    def evict(self, protected: Protected) -> bytes | None:
        for key in self._sizes:
            if not protected(key):
                del self._sizes[key]
                return key
        return None

    def __contains__(self, key: object) -> bool:
        return key in self._sizes

    def __len__(self) -> int:
        return len(self._sizes)
