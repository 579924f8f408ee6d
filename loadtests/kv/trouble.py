"""Every tier of a store behind the fault wrapper: everything that can go wrong does, and is counted."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Mapping
from functools import partial

from cache.keys import ChunkKey
from cache.store import Store
from cache.tiers.faulty import FaultyTier, Mischief, Operation
from cache.tiers.tier import Fault

_HANGS = 2
_ANYWHERE = (Mischief.TIMEOUT, Mischief.GONE, Mischief.RAISES, Mischief.SLOW, Mischief.HANGS)
_OF: Mapping[Operation, tuple[Mischief, ...]] = {
    "get": (
        Mischief.SHORT_READ,
        Mischief.FLIPPED_BIT,
        Mischief.FLIPPED_HEAD_BIT,
        Mischief.OTHER_LAYOUT,
        Mischief.OTHER_KEY,
        *_ANYWHERE,
    ),
    "put": (Mischief.TORN_WRITE, Mischief.FULL, *_ANYWHERE),
    "delete": _ANYWHERE,
    "contains": _ANYWHERE,
}
TOLD_AS: Mapping[Mischief, Fault] = {
    Mischief.TORN_WRITE: Fault.TORN,
    Mischief.SHORT_READ: Fault.CORRUPT,
    Mischief.FLIPPED_BIT: Fault.CORRUPT,
    Mischief.FLIPPED_HEAD_BIT: Fault.CORRUPT,
    Mischief.OTHER_LAYOUT: Fault.LAYOUT,
    Mischief.OTHER_KEY: Fault.KEY,
    Mischief.FULL: Fault.FULL,
    Mischief.TIMEOUT: Fault.TIMEOUT,
    Mischief.GONE: Fault.GONE,
    Mischief.RAISES: Fault.IO,
}
"""What the store calls it. Slow and hanging operations have no name: they cost their tier its turn."""


class Trouble:
    """Wraps the tiers of a store. Nothing happens to them outside `begin` and `end`."""

    def __init__(self, store: Store, seed: int) -> None:
        self._source = random.Random(seed)
        self._lock = threading.Lock()
        self._share = 0.0
        self._hangs: dict[str, int] = {}
        self._tiers: dict[str, FaultyTier] = {}
        self.done: dict[str, Counter[Mischief]] = {}
        """How often what was done to which tier."""
        for name, link in store._links.items():
            self.done[name] = Counter()
            link.tier = self._tiers[name] = FaultyTier(link.tier, partial(self._script, name))

    def begin(self, share: float) -> None:
        """From now on this share of operations goes wrong. At most `_HANGS` of each tier hang, each until the
        next `release`."""
        with self._lock:
            self._share = share
            self._hangs = dict.fromkeys(self._tiers, _HANGS)

    def release(self) -> None:
        """What hangs goes on."""
        for tier in self._tiers.values():
            tier.resume()

    def end(self) -> None:
        """All tiers work again, and what hung goes on. Call it again while somebody may just have hung."""
        with self._lock:
            self._share = 0.0
        self.release()

    def _script(self, tier: str, operation: Operation, key: ChunkKey) -> Mischief | None:
        with self._lock:
            if self._source.random() >= self._share:
                return None
            mischief = self._source.choice(_OF[operation])
            if mischief is Mischief.HANGS:
                # Rare: while it lasts, nothing else can be done to the tier.
                if self._hangs[tier] <= 0 or self._source.random() > 0.1:
                    return None
                self._hangs[tier] -= 1
            self.done[tier][mischief] += 1
        return mischief
