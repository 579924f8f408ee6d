"""Moving and re-encoding chunks on request. New copies are whole before old ones go, so a crash loses
nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from cache.codecs import registry
from cache.codecs.codec import Codec, refuse_holes
from cache.counters import MEMORY
from cache.index import Entry
from cache.keys import ChunkKey
from cache.lease import Lease
from cache.ledger import Ledger
from cache.link import Link
from cache.save import Saver

if TYPE_CHECKING:
    from cache.store import Store

_GROUP = 32
"""Chunks held in the arena at once for one request."""


class UnknownTier(ValueError):
    """The store has no tier of this name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"there is no tier {name!r}; there are {', '.join(known)}")


class Relocator:
    """Verbs of the control API that copy chunks. They block, so call them on a thread that may wait."""

    def __init__(self, store: Store, ledger: Ledger, saver: Saver, links: Mapping[str, Link]) -> None:
        self._store = store
        self._ledger = ledger
        self._saver = saver
        self._links = links

    def prefetch(self, keys: Sequence[ChunkKey], seconds: float) -> int:
        """Bring a prefix into the arena; returns how many leading chunks are there."""
        with self._store.lookup(keys, owner="prefetch", seconds=2 * seconds) as lease:
            self._store.fetch(lease, seconds=seconds)
            lease.wait(seconds)
            return lease.ready

    def move(
        self, keys: Sequence[ChunkKey], source: str, target: str, *, keep: bool = False, seconds: float
    ) -> int:
        """Copy chunks from `source` to `target`, then remove them from `source` unless `keep`.

        Returns how many are in `target` now. Raises UnknownTier.
        """
        self._check(source)
        self._check(target)
        if source == target:
            raise ValueError(f"source and target are both {source}")
        moved: list[Entry] = []
        for group in self._brought(keys, seconds):
            arrived = [entry for entry in group if self._in(entry, source)]
            if target != MEMORY:
                arrived = self._written(arrived, self._links[target], None, seconds)
            moved += arrived
        if not keep:
            self._remove(moved, source)
        return len(moved)

    def recode(
        self, keys: Sequence[ChunkKey], tier: str, codec: str, config: Mapping[str, Any], *, seconds: float
    ) -> int:
        """Write the frames that `tier` has anew with another codec; returns how many.

        Raises UnknownTier, UnknownCodec, and ValueError for a lossy codec: that KV belongs under other keys.
        """
        self._check(tier)
        if tier == MEMORY:
            raise ValueError(
                "the arena holds raw chunks; move them to the packed tier to compress them in memory"
            )
        made = registry.make(codec, config)
        refuse_holes(made)
        if not made.lossless:
            raise ValueError(f"codec {codec} is lossy: compressed so, chunks would answer for exact ones")
        done = 0
        for group in self._brought(keys, seconds):
            present = [entry for entry in group if tier in entry.places]
            done += len(self._written(present, self._links[tier], made, seconds))
        return done

    def _check(self, name: str) -> None:
        if name != MEMORY and name not in self._links:
            raise UnknownTier(name, [MEMORY, *self._links])

    def _in(self, entry: Entry, tier: str) -> bool:
        return entry.slot is not None if tier == MEMORY else tier in entry.places

    def _brought(self, keys: Sequence[ChunkKey], seconds: float) -> Iterator[list[Entry]]:
        """Groups of chunks that are in the arena, held while the caller works on them."""
        until = time.monotonic() + seconds
        for first in range(0, len(keys), _GROUP):
            leases: list[Lease] = []
            try:
                for key in keys[first : first + _GROUP]:
                    lease = self._store.lookup([key], owner="relocate", seconds=2 * seconds)
                    leases.append(lease)
                    self._store.fetch(lease, seconds=max(0.0, until - time.monotonic()), promote=False)
                for lease in leases:
                    lease.wait(max(0.0, until - time.monotonic()))
                yield [lease.entries[0] for lease in leases if lease.ready]
            finally:
                for lease in leases:
                    lease.release()

    def _written(
        self, entries: Sequence[Entry], link: Link, codec: Codec | None, seconds: float
    ) -> list[Entry]:
        """Those of the entries whose frames are in the tier, once they are."""
        done: list[Entry] = []
        ended = threading.Semaphore(0)

        def then(entry: Entry, written: bool) -> None:
            if written:
                done.append(entry)
            ended.release()

        queued = 0
        with self._ledger.lock:
            for entry in entries:
                if codec is None and link.name in entry.places:
                    done.append(entry)
                else:
                    queued += self._saver.enqueue(entry, link, codec=codec, then=partial(then, entry))
        until = time.monotonic() + seconds
        for _ in range(queued):
            if not ended.acquire(timeout=max(0.0, until - time.monotonic())):
                break
        return done

    def _remove(self, entries: Sequence[Entry], source: str) -> None:
        """Remove chunks from a tier; from the arena only those that nobody uses now."""
        with self._ledger.lock:
            for entry in entries:
                if source == MEMORY:
                    self._ledger.drop(entry)
                else:
                    self._ledger.displaced(entry, source)
            if source != MEMORY:
                self._saver.remove(self._links[source], [entry.key for entry in entries])
