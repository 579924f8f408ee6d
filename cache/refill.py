"""Memory filled from a slower tier at a start: what was used last, as far as `memory.refill` says."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial

from cache.fetch import Fetcher
from cache.keys import ChunkKey, namespace_of
from cache.ledger import Ledger
from cache.link import Link


class Refill:
    """Of one namespace from one tier, in batches on the lane of the tier; `ended` is set after the last."""

    def __init__(self, link: Link, namespace: bytes, ledger: Ledger, fetcher: Fetcher, chunks: int) -> None:
        """`chunks`: at most so many."""
        self._link, self._namespace, self._chunks = link, namespace, chunks
        self._ledger, self._fetcher = ledger, fetcher
        self.ended = threading.Event()

    def start(self) -> bool:
        """Queue it behind the tier's index; whether there was room in the queue."""
        return self._link.reads.submit(self._begin)

    def _begin(self) -> None:
        with self._ledger.lock:
            found = [
                (place.used, key)
                for key, entry in self._ledger.entries.items()
                if (place := entry.places.get(self._link.name)) is not None
                and namespace_of(key) == self._namespace
            ]
        found.sort()
        # The oldest first: what came first is what the policy drops first.
        self._batch([key for _, key in found[-self._chunks :]] if self._chunks else [])

    def _batch(self, keys: Sequence[ChunkKey]) -> None:
        """One batch, and the rest behind whatever requests have queued meanwhile."""
        link = self._link
        size = link.settings.batch
        goes_on = bool(keys) and self._fetcher.refill(link, keys[:size], link.settings.timeout_seconds)
        rest = keys[size:]
        if not (goes_on and rest and link.reads.submit(partial(self._batch, rest))):
            self.ended.set()
