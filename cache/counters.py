"""What a store counts. Plain numbers, read by `Store.stats` and turned into Prometheus series by whoever
serves them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cache.economy import EconomyCounters

MEMORY = "memory"
"""Name of the arena among the tiers."""


@dataclass(slots=True)
class TierCounters:
    """Of one tier, since the store was opened."""

    hits: int = 0
    """Chunks found here by a lookup or a fetch."""
    loads: int = 0
    """Chunks brought from here into the arena."""
    saves: int = 0
    """Chunks written here."""
    read_bytes: int = 0
    written_bytes: int = 0
    read_seconds: float = 0.0
    write_seconds: float = 0.0
    evictions: int = 0
    dropped: int = 0
    """Saves given up: no room, a full queue, or a tier that does not answer."""
    refused: int = 0
    """Operations not begun because the circuit was open."""
    faults: dict[str, int] = field(default_factory=dict)
    """By kind of fault (`cache.tiers.tier.Fault`); each was a miss or a lost save, nothing else."""

    def copy(self) -> TierCounters:
        return replace(self, faults=dict(self.faults))

    def fault(self, kind: str, chunks: int = 1) -> None:
        self.faults[kind] = self.faults.get(kind, 0) + chunks


@dataclass(slots=True)
class StoreCounters:
    """Of the store as a whole."""

    lookups: int = 0
    asked: int = 0
    """Chunks asked for by lookups."""
    expired_leases: int = 0
    expired_reservations: int = 0
    unsealed: int = 0
    """Slots that a commit found unwritten."""
    quota_refusals: int = 0
    """Times that a tenant's quota of memory left no room for a save."""
    late_fetches: int = 0
    """Fetches that were waited for until their deadline, in vain or in part."""
    events_lost: int = 0
    forgotten: int = 0
    """Chunks that only far tiers had and that this process forgot, to keep its index small."""


@dataclass(frozen=True, slots=True)
class TierStats:
    """A tier at one moment."""

    counters: TierCounters
    chunks: int
    """That this process knows of."""
    used_bytes: int
    """Over all processes that share the tier, where the tier can tell."""
    capacity_bytes: int | None
    """None: bounded by its own server."""
    queued: int
    """Chunks waiting to be written."""
    available: bool
    """False while the circuit is open."""
    tenants: Mapping[str, int] = field(default_factory=dict)
    """Bytes by tenant, over all who share the tier; empty where it cannot tell."""
    streamed: Mapping[str, int] = field(default_factory=dict)
    """Chunks read by quality level, where the tier chooses among them."""


@dataclass(frozen=True, slots=True)
class StoreStats:
    """A store at one moment."""

    counters: StoreCounters
    economy: EconomyCounters
    tiers: Mapping[str, TierStats]
    """Fastest first."""
    tenants: Mapping[str, int]
    """Arena bytes by tenant; what they have elsewhere is with the tiers."""
    leases: int
    reservations: int
    held_chunks: int
    """Chunks that cannot be evicted now because a lease or a transfer holds them."""
    pinned_chunks: int
    known_chunks: int
    """All that this process knows of, in whatever tier."""
    far_chunks: int
    """Those of them that only tiers with bounds of their own servers' have."""
