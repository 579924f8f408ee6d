"""Pins: chunks that must stay, each with owners, and an end for every owner's wish."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from cache.keys import ChunkKey


class Pins:
    """Who pinned what until when. Time is an argument (wall-clock seconds)."""

    def __init__(self) -> None:
        self._ends: dict[ChunkKey, dict[str, float]] = {}
        self._due: list[tuple[float, ChunkKey, str]] = []

    def pin(self, key: ChunkKey, owner: str, until: float) -> None:
        """Pin, or move the end of the owner's pin to `until`."""
        self._ends.setdefault(key, {})[owner] = until
        heappush(self._due, (until, key, owner))

    def unpin(self, key: ChunkKey, owner: str) -> bool:
        """End the owner's pin. Returns whether nobody else's is left; False too if there was none."""
        owners = self._ends.get(key)
        if owners is None or owners.pop(owner, None) is None:
            return False
        if owners:
            return False
        del self._ends[key]
        return True

    def expire(self, now: float) -> Iterator[ChunkKey]:
        """End the pins that are due; yields the chunks that nobody pins any more."""
        while self._due and self._due[0][0] <= now:
            until, key, owner = heappop(self._due)
            if self._ends.get(key, {}).get(owner) == until and self.unpin(key, owner):
                yield key

    def owners(self, key: ChunkKey) -> dict[str, float]:
        """Ends by owner."""
        return dict(self._ends.get(key, {}))

    def __contains__(self, key: object) -> bool:
        return key in self._ends

    def __len__(self) -> int:
        return len(self._ends)
