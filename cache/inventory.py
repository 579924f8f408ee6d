"""What a store holds, for people: its chunks, and how much each tenant and namespace has of which tier."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cache.counters import MEMORY
from cache.index import Entry
from cache.keys import ChunkKey, namespace_of
from cache.ledger import Ledger
from cache.link import Link
from cache.namespaces import OpenNamespaces
from cache.settings import Owner, Quotas

_ASK_SECONDS = 2.0
"""For servers that have to be asked what owners have there."""


class ChunkInfo(NamedTuple):
    """What is known of a chunk."""

    key: ChunkKey
    tenant: str
    position: int
    """Of its first token in its sequence; 0 if this process has not read it yet."""
    tiers: Mapping[str, int]
    """Bytes in each tier that has it, fastest first."""
    holds: int
    pins: Mapping[str, float]
    """Ends by owner, wall-clock."""
    expires: float | None


@dataclass(slots=True)
class Share:
    """What one tenant or namespace has, and may have, in bytes by tier."""

    tenant: str = ""
    kind: str = ""
    """Of a namespace that this process has opened: `exact` or a quality level."""
    used: dict[str, int] = field(default_factory=dict)
    quotas: dict[str, int] = field(default_factory=dict)
    """Where it has a bound of its own."""


class Inventory:
    """Reads; changes nothing. Any thread."""

    def __init__(
        self, ledger: Ledger, links: Mapping[str, Link], namespaces: OpenNamespaces, memory: Quotas
    ) -> None:
        self._ledger = ledger
        self._links = links
        self._namespaces = namespaces
        self._memory = memory

    def chunks(self, *, namespace: bytes | None = None, limit: int = 1000) -> list[ChunkInfo]:
        """Known chunks, those in the arena first."""
        ledger = self._ledger
        with ledger.lock:
            chosen = [
                entry
                for key, entry in ledger.entries.items()
                if (namespace is None or namespace_of(key) == namespace) and entry.landing is None
            ]
            chosen.sort(key=lambda entry: entry.slot is None)
            return [self._info(entry) for entry in chosen[:limit]]

    def shares(self) -> dict[Owner, Share]:
        """By tenant and by namespace. Asks servers that count, for two seconds at most each."""
        found: dict[Owner, Share] = {}
        for tier, quotas, used in self._counts():
            for owner, nbytes in used.items():
                share = found.get(owner) or found.setdefault(owner, self._share(owner))
                share.used[tier] = nbytes
                if (quota := quotas.of(owner)) is not None:
                    share.quotas[tier] = quota
        return found

    def _counts(self) -> Iterator[tuple[str, Quotas, Mapping[Owner, int]]]:
        """Bytes by owner in each tier, fastest first."""
        ledger = self._ledger
        with ledger.lock:
            memory: dict[Owner, int] = {**dict(ledger.room.tenants()), **dict(ledger.room.namespaces())}
        owners: set[Owner] = {*memory, *self._namespaces.owners()}
        yield MEMORY, self._memory, memory
        for name, link in self._links.items():
            yield name, link.quotas, link.shares(owners, time.monotonic() + _ASK_SECONDS)

    def _share(self, owner: Owner) -> Share:
        if isinstance(owner, str):
            return Share(owner)
        known = self._namespaces.get(owner)
        return Share(self._ledger.tenant(owner), known.kind if known is not None else "")

    def _info(self, entry: Entry) -> ChunkInfo:
        tiers = {name: place.nbytes for name, place in entry.places.items()}
        if entry.slot is not None:
            tiers = {MEMORY: entry.slot.nbytes} | tiers
        pins = self._ledger.pins.owners(entry.key)
        return ChunkInfo(entry.key, entry.tenant, entry.position, tiers, entry.holds, pins, entry.expires)
