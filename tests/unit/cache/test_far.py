"""What only servers of other machines have is remembered up to a bound; what lies here is never forgotten."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cache.counters import MEMORY
from cache.keys import ChunkKey
from cache.lease import Lease
from cache.tiers.memory import MemoryTier
from tests.unit.cache.stores import CHUNK_BYTES, Bench, SharedMemoryTier, plan, shared_tier

SLOTS = 8
MOST = 5
SEQUENCES = 6
LENGTH = 5


class FarTier(SharedMemoryTier):
    """Stands for a server that bounds itself."""

    name = "valkey"
    capacity = None  # type: ignore[assignment]

    def __init__(self) -> None:
        MemoryTier.__init__(self, 256 * (CHUNK_BYTES + 40000), CHUNK_BYTES)


def bench(far: FarTier, files: SharedMemoryTier | None = None, most: int = MOST) -> Bench:
    near = [] if files is None else [plan(files, fill_on_hit=False)]
    return Bench(SLOTS, tiers=[*near, plan(far)], far_chunks=most, miss_memory_seconds=0.1)


counts = st.integers(1, LENGTH)
sequences = st.integers(0, SEQUENCES - 1)
picks = st.integers(0, 1 << 16)


class Index(RuleBasedStateMachine):
    """Two processes on the same tiers; the first one's index is looked at."""

    @initialize(room=st.sampled_from([2, 64]))
    def open(self, room: int) -> None:
        self.far, files = FarTier(), shared_tier(room)
        self.here = bench(self.far, files)
        self.other = bench(self.far, files if room > SLOTS else None)
        self.ledger = self.here.store._ledger
        self.leases: list[Lease] = []
        for sequence in range(SEQUENCES):
            self.another_process_saves(sequence, LENGTH)
            self.read(sequence, dropped=True)

    def keys(self, sequence: int, count: int = LENGTH) -> list[ChunkKey]:
        return self.here.keys(count, start=1000 * sequence)

    @rule(sequence=sequences, count=counts)
    def another_process_saves(self, sequence: int, count: int) -> None:
        self.other.save(self.keys(sequence, count))
        self.other.jobs.run()
        self.here.clock.now += 1

    @rule(sequence=sequences)
    def another_process_clears(self, sequence: int) -> None:
        self.other.store.clear(keys=self.keys(sequence))
        self.other.jobs.run()
        self.here.clock.now += 1

    @rule(sequence=sequences, count=counts)
    def save(self, sequence: int, count: int) -> None:
        self.here.save(self.keys(sequence, count))

    @rule(sequence=sequences, count=counts, promote=st.booleans(), limit=counts)
    def fetch(self, sequence: int, count: int, promote: bool, limit: int) -> None:
        lease = self.here.store.lookup(self.keys(sequence, count), owner="machine")
        self.here.store.fetch(lease, seconds=50, chunks=limit, promote=promote)
        self.leases.append(lease)

    @rule(sequence=sequences, dropped=st.booleans())
    def read(self, sequence: int, dropped: bool) -> None:
        """A whole request; afterwards memory may need the room for something else."""
        self.here.fetched(self.keys(sequence))
        if dropped:
            self.drop_from_memory(sequence)

    @precondition(lambda self: self.leases)
    @rule(pick=picks)
    def release(self, pick: int) -> None:
        self.leases.pop(pick % len(self.leases)).release()

    @rule(steps=st.integers(1, 5))
    def transfer(self, steps: int) -> None:
        for _ in range(steps):
            self.here.jobs.step()

    @rule(sequence=sequences, seconds=st.sampled_from([5.0, 60.0]))
    def pin(self, sequence: int, seconds: float) -> None:
        self.here.store.pin(self.keys(sequence), "machine", seconds)

    @rule(sequence=sequences)
    def unpin(self, sequence: int) -> None:
        self.here.store.unpin(self.keys(sequence), "machine")

    @rule(sequence=sequences)
    def clear(self, sequence: int) -> None:
        self.here.store.clear(keys=self.keys(sequence))

    @rule(sequence=sequences)
    def drop_from_memory(self, sequence: int) -> None:
        for key in self.keys(sequence):
            if key in self.ledger.entries:
                self.ledger.drop(self.ledger.entries[key])

    @rule(seconds=st.sampled_from([0.5, 30.0]))
    def wait(self, seconds: float) -> None:
        self.here.clock.now += seconds

    @rule()
    def look(self) -> None:
        """Whoever looks sweeps: the bound holds from then on, and nothing that lies here has gone."""
        near = {
            entry.key: dict(entry.places)
            for entry in self.ledger.entries.values()
            if entry.slot or entry.landing or entry.pinned or set(entry.places) - {"valkey"}
        }
        stats = self.here.store.stats()
        assert stats.far_chunks <= MOST
        assert stats.known_chunks == len(self.ledger.entries)
        kept = {key for key in near if key in self.ledger.entries}
        ended = {key for key in near.keys() - kept if near[key] == {"valkey": near[key].get("valkey")}}
        assert kept | ended == near.keys(), "only pins that have just ended let something go"

    @invariant()
    def the_order_has_all_that_may_be_forgotten_and_nothing_else(self) -> None:
        if not hasattr(self, "ledger"):
            return
        expected = {
            entry.key
            for entry in self.ledger.entries.values()
            if entry.slot is None
            and entry.landing is None
            and not entry.pinned
            and set(entry.places) == {"valkey"}
        }
        assert set(self.ledger.far._sizes) == expected
        found = Counter(name for entry in self.ledger.entries.values() for name in entry.places)
        found[MEMORY] = sum(entry.slot is not None for entry in self.ledger.entries.values())
        assert +self.ledger.copies == +found

    def teardown(self) -> None:
        if hasattr(self, "here"):
            for lease in self.leases:
                lease.release()
            self.here.jobs.run()
            self.here.store.close()
            self.other.store.close()


Index.TestCase.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestIndex = Index.TestCase


def known(store_bench: Bench, wanted: list[ChunkKey]) -> int:
    with store_bench.store.lookup(wanted, owner="test") as lease:
        return lease.known


def test_what_was_used_last_stays_known_and_the_rest_is_found_again() -> None:
    far = FarTier()
    other, here = bench(far), bench(far)
    prompts = [other.keys(2, start=1000 * n) for n in range(3)]
    for prompt in prompts:
        other.save(prompt)
        other.jobs.run()
        here.fetched(prompt)
        for entry in list(here.store._ledger.entries.values()):
            here.store._ledger.drop(entry)
    assert here.store.stats().counters.forgotten == 1
    assert known(here, prompts[0]) in (0, 1)
    assert known(here, prompts[2]) == 2
    assert known(here, prompts[1]) == 2
    assert here.fetched(prompts[0]) == 2, "forgotten, but there"
    other.store.close()
    here.store.close()


def test_what_was_forgotten_is_cleared_where_it_lies() -> None:
    far = FarTier()
    other, here = bench(far), bench(far, most=0)
    keys = other.keys(3)
    other.save(keys)
    other.jobs.run()
    assert here.store.clear(keys=keys) == 0
    here.jobs.run()
    assert far.used() == 0
    other.store.close()
    here.store.close()
