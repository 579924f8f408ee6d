"""What the KV layer counts, as metric families and their samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cache.counters import StoreStats
from engine_adapter.vllm.plan import StepReport

PREFIX = "sluice_kv_"


class Family(NamedTuple):
    """One metric: `labels` besides those that vLLM puts on all of its own."""

    kind: str
    help: str
    labels: tuple[str, ...] = ()


FAMILIES: dict[str, Family] = {
    "layer_up": Family(
        "gauge", "1 while the KV layer serves this engine, 0 while it is off; the log says why."
    ),
    "prompt_tokens": Family("counter", "Prompt tokens by where their KV came from.", ("source",)),
    "transfer_bytes": Family("counter", "Bytes copied between engine pages and memory.", ("direction",)),
    "transfer_seconds": Family("counter", "Seconds the engine spent on these copies.", ("direction",)),
    "failed_blocks": Family(
        "counter", "Engine blocks whose load failed; their tokens were computed instead."
    ),
    "damaged_slots": Family(
        "counter", "Chunks in memory that did not match their checksum and were dropped."
    ),
    "lookups": Family("counter", "Lookups in the store."),
    "lookup_chunks": Family("counter", "Chunks these asked for."),
    "expired_borrows": Family("counter", "Leases and reservations that their deadline ended.", ("what",)),
    "quota_refusals": Family("counter", "Saves cut short because the tenant's quota of memory was used up."),
    "late_fetches": Family(
        "counter",
        "Requests that stopped waiting for a slower tier at their deadline; what had not come was computed.",
    ),
    "load_decisions": Family("counter", "Whether to load from slower tiers.", ("decision",)),
    "load_expected_seconds": Family("counter", "What loads that were measured afterwards should have taken."),
    "load_actual_seconds": Family("counter", "What they took."),
    "load_error_seconds": Family("counter", "Sum of the differences."),
    "load_regretted": Family("counter", "Loads that took longer than computing would have."),
    "leases": Family("gauge", "Leases that are held now."),
    "held_chunks": Family("gauge", "Chunks that cannot be evicted now because somebody uses them."),
    "pinned_chunks": Family("gauge", "Chunks that somebody pinned."),
    "known_chunks": Family("gauge", "Chunks in the index of this worker, in whatever tier."),
    "far_chunks": Family("gauge", "Those of them that only Valkey or S3 have; `far_chunks` bounds them."),
    "forgotten_chunks": Family(
        "counter", "Chunks in Valkey or S3 that this worker forgot to keep its index small."
    ),
    "tier_hits": Family("counter", "Chunks found in a tier.", ("tier",)),
    "tier_loads": Family("counter", "Chunks brought from a tier into memory.", ("tier",)),
    "tier_saves": Family("counter", "Chunks written to a tier.", ("tier",)),
    "tier_read_bytes": Family("counter", "Bytes read from a tier.", ("tier",)),
    "tier_written_bytes": Family("counter", "Bytes written to a tier.", ("tier",)),
    "tier_read_seconds": Family("counter", "Seconds of reading from a tier.", ("tier",)),
    "tier_write_seconds": Family("counter", "Seconds of writing to a tier.", ("tier",)),
    "tier_evictions": Family("counter", "Chunks that a tier dropped for others.", ("tier",)),
    "tier_dropped": Family("counter", "Saves to a tier that were given up.", ("tier",)),
    "tier_refused": Family("counter", "Operations not begun while a tier did not answer.", ("tier",)),
    "tier_faults": Family(
        "counter", "What went wrong with a tier; each was a miss or a lost save.", ("tier", "fault")
    ),
    "tier_chunks": Family("gauge", "Chunks in a tier, as far as this worker knows.", ("tier",)),
    "tier_used_bytes": Family("gauge", "Bytes in a tier.", ("tier",)),
    "tier_capacity_bytes": Family("gauge", "Bytes a tier may take.", ("tier",)),
    "tier_queued": Family("gauge", "Chunks waiting to be written to a tier.", ("tier",)),
    "tier_available": Family("gauge", "0 while a tier is left alone because it kept failing.", ("tier",)),
    "tenant_bytes": Family(
        "gauge", "Bytes of memory by tenant; the empty name is everybody without one.", ("tenant",)
    ),
    "tier_tenant_bytes": Family(
        "gauge",
        "Bytes by tenant in a tier that counts them, over all who share it, as last heard.",
        ("tier", "tenant"),
    ),
    "streamed_chunks": Family(
        "counter", "Chunks read from a tier that chooses among quality levels, by level.", ("tier", "level")
    ),
}


RECENT = 64
"""Requests told again with every report, so that one may get lost."""


@dataclass(slots=True)
class Totals:
    """What the connector itself counts, since its start."""

    tokens: dict[str, int] = field(default_factory=dict)
    load_seconds: float = 0.0
    save_seconds: float = 0.0
    loaded_bytes: int = 0
    saved_bytes: int = 0
    failed_blocks: int = 0
    damaged_slots: int = 0
    changes: int = 0
    """Grows with every change, to tell whether there is news."""
    admissions: int = 0
    recent: deque[tuple[str, dict[str, int]]] = field(default_factory=lambda: deque(maxlen=RECENT))
    """The latest requests admitted, and where their prompts' KV came from."""

    def admitted(self, request_id: str, sources: Mapping[str, int]) -> None:
        """A request starts with its prompt's KV from `sources`."""
        self.changes += 1
        self.admissions += 1
        self.recent.append((request_id, dict(sources)))
        for source, tokens in sources.items():
            self.tokens[source] = self.tokens.get(source, 0) + tokens

    def add(self, report: StepReport) -> None:
        """Take in what a worker did."""
        if report.loaded_bytes or report.saved_bytes or report.failed_blocks:
            self.changes += 1
        self.load_seconds += report.load_seconds
        self.save_seconds += report.save_seconds
        self.loaded_bytes += report.loaded_bytes
        self.saved_bytes += report.saved_bytes
        self.failed_blocks += report.failed_blocks


Sample = tuple[str, tuple[str, ...], float]
"""Name of the family, label values, value since the start."""


def samples(totals: Totals, store: StoreStats | None) -> Iterator[Sample]:
    """All metrics of one engine's KV layer; without a store, only that it is off."""
    yield "layer_up", (), float(store is not None)
    for source, tokens in totals.tokens.items():
        yield "prompt_tokens", (source,), tokens
    yield "transfer_bytes", ("load",), totals.loaded_bytes
    yield "transfer_bytes", ("save",), totals.saved_bytes
    yield "transfer_seconds", ("load",), totals.load_seconds
    yield "transfer_seconds", ("save",), totals.save_seconds
    yield "failed_blocks", (), totals.failed_blocks
    yield "damaged_slots", (), totals.damaged_slots
    if store is None:
        return
    yield "lookups", (), store.counters.lookups
    yield "lookup_chunks", (), store.counters.asked
    yield "expired_borrows", ("lease",), store.counters.expired_leases
    yield "expired_borrows", ("reservation",), store.counters.expired_reservations
    yield "quota_refusals", (), store.counters.quota_refusals
    yield "late_fetches", (), store.counters.late_fetches
    economy = store.economy
    yield "load_decisions", ("load",), economy.loads
    yield "load_decisions", ("compute",), economy.refusals
    yield "load_decisions", ("explore",), economy.explored
    yield "load_expected_seconds", (), economy.expected_seconds
    yield "load_actual_seconds", (), economy.actual_seconds
    yield "load_error_seconds", (), economy.error_seconds
    yield "load_regretted", (), economy.regretted
    yield "leases", (), store.leases
    yield "held_chunks", (), store.held_chunks
    yield "pinned_chunks", (), store.pinned_chunks
    yield "known_chunks", (), store.known_chunks
    yield "far_chunks", (), store.far_chunks
    yield "forgotten_chunks", (), store.counters.forgotten
    for tenant, used in store.tenants.items():
        yield "tenant_bytes", (tenant,), used
    for name, tier in store.tiers.items():
        counters = tier.counters
        for what in (
            "hits",
            "loads",
            "saves",
            "read_bytes",
            "written_bytes",
            "read_seconds",
            "write_seconds",
        ):
            yield f"tier_{what}", (name,), getattr(counters, what)
        for what in ("evictions", "dropped", "refused"):
            yield f"tier_{what}", (name,), getattr(counters, what)
        for fault, count in counters.faults.items():
            yield "tier_faults", (name, str(fault)), count
        yield "tier_chunks", (name,), tier.chunks
        yield "tier_used_bytes", (name,), tier.used_bytes
        if tier.capacity_bytes is not None:
            yield "tier_capacity_bytes", (name,), tier.capacity_bytes
        yield "tier_queued", (name,), tier.queued
        yield "tier_available", (name,), float(tier.available)
        for tenant, used in tier.tenants.items():
            yield "tier_tenant_bytes", (name, tenant), used
        for level, chunks in tier.streamed.items():
            yield "streamed_chunks", (name, level), chunks
