"""No order of lookups, fetches, saves, releases, evictions, damages, pins and expiries leaks a slot or frees
one in use."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cache.arena import SlotRef
from cache.counters import MEMORY
from cache.keys import ChunkKey
from cache.lease import BorrowState, Lease, Reservation
from cache.tiers.faulty import FaultyTier, Mischief
from tests.unit.cache.stores import Bench, fill, plan, shared_tier

SLOTS = 8
SEQUENCES = 3
LENGTH = 6
_NOT_STEPWISE = (Mischief.HANGS, Mischief.RAISES, Mischief.SLOW)
HARMS = [None, None, None, *(m for m in Mischief if m not in _NOT_STEPWISE)]

counts = st.integers(1, LENGTH)
sequences = st.integers(0, SEQUENCES - 1)
picks = st.integers(0, 1 << 16)


class Interleavings(RuleBasedStateMachine):
    @initialize(write=st.sampled_from(["through", "back", "never"]), room=st.sampled_from([3, 64]))
    def open(self, write: str, room: int) -> None:
        self.harm: Mischief | None = None
        self.tier = FaultyTier(shared_tier(room), lambda operation, key: self.harm)
        self.bench = Bench(
            SLOTS, tiers=[plan(self.tier, write=write, failures_to_open=2)], lease_seconds=30.0
        )
        self.store = self.bench.store
        self.sequences = [
            self.bench.keys(LENGTH, start=1000 * n, tenant=f"t{n % 2}") for n in range(SEQUENCES)
        ]
        self.leases: list[Lease] = []
        self.reservations: list[Reservation] = []
        self.damaged: set[SlotRef] = set()

    @rule(sequence=sequences, count=counts)
    def save(self, sequence: int, count: int) -> None:
        self.bench.save(self.sequences[sequence][:count])

    @rule(sequence=sequences, count=counts)
    def save_and_look_up(self, sequence: int, count: int) -> None:
        self.save(sequence, count)
        self.look_up(sequence, count)

    @rule(sequence=sequences, count=counts)
    def look_up(self, sequence: int, count: int) -> None:
        self.leases.append(self.store.lookup(self.sequences[sequence][:count], owner="machine"))

    @precondition(lambda self: self.leases)
    @rule(pick=picks, seconds=st.sampled_from([1.0, 50.0]), probe=st.booleans())
    def fetch(self, pick: int, seconds: float, probe: bool) -> None:
        """Fetches go on for released leases too: then nothing happens."""
        self.store.fetch(self.leases[pick % len(self.leases)], seconds=seconds, probe=probe)

    @precondition(lambda self: self.leases)
    @rule(pick=picks)
    def release(self, pick: int) -> None:
        self.leases[pick % len(self.leases)].release()

    @rule(sequence=sequences, first=st.integers(0, LENGTH - 1), count=counts)
    def reserve(self, sequence: int, first: int, count: int) -> None:
        keys = self.sequences[sequence][first : first + count]
        self.reservations.append(self.store.reserve(keys, first=first))

    @precondition(lambda self: self.reservations)
    @rule(pick=picks, skip=st.integers(0, LENGTH), told=st.booleans())
    def commit(self, pick: int, skip: int, told: bool) -> None:
        reservation = self.reservations.pop(pick % len(self.reservations))
        written = []
        for number, (key, ref) in enumerate(zip(reservation.keys, reservation.slots, strict=True)):
            wanted = ref is not None and number != skip and self.store.arena.current(ref)
            if wanted:
                fill(self.store, key, ref)
            written.append(wanted)
        reservation.commit(written if told else None)
        assert reservation.commit() == 0

    @precondition(lambda self: self.reservations)
    @rule(pick=picks)
    def abort(self, pick: int) -> None:
        self.reservations.pop(pick % len(self.reservations)).abort()

    @rule(steps=st.integers(1, 4), harm=st.sampled_from(HARMS))
    def transfer(self, steps: int, harm: Mischief | None) -> None:
        self.harm = harm
        for _ in range(steps):
            self.bench.jobs.step()
        self.harm = None

    @rule(seconds=st.sampled_from([0.5, 7.0, 40.0, 150.0]))
    def wait(self, seconds: float) -> None:
        self.bench.clock.now += seconds
        for lease in self.leases:
            assert lease.done in (True, False)

    @rule(sequence=sequences, count=counts, owner=st.sampled_from("ab"), seconds=st.sampled_from([5.0, 60.0]))
    def pin(self, sequence: int, count: int, owner: str, seconds: float) -> None:
        self.store.pin(self.sequences[sequence][:count], owner, seconds)

    @rule(sequence=sequences, owner=st.sampled_from("ab"))
    def unpin(self, sequence: int, owner: str) -> None:
        self.store.unpin(self.sequences[sequence], owner)

    @rule(sequence=sequences, first=st.integers(0, LENGTH - 1))
    def clear(self, sequence: int, first: int) -> None:
        keys = self.sequences[sequence][first:]
        self.store.clear(keys=keys)
        assert self.bench.ready(keys) == 0

    @rule(sequence=sequences, number=st.integers(0, LENGTH - 1))
    def damage(self, sequence: int, number: int) -> None:
        """A bit flips in a chunk that lies in memory, and the next reader notices."""
        keys = self.sequences[sequence][number:]
        with self.store.lookup(keys, owner="damage") as lease:
            if lease.ready:
                ref = lease.slots()[0]
                self.store.arena.memory(ref)[3] ^= 1
                self.damaged.add(ref)
                assert self.store.verified(lease) == 0
        assert self.bench.ready(keys) == 0

    @rule(sequence=sequences)
    def touch(self, sequence: int) -> None:
        self.store.touch(self.sequences[sequence])

    @invariant()
    def leases_read_what_they_borrowed(self) -> None:
        for lease in getattr(self, "leases", []):
            if lease.state is BorrowState.HELD:
                refs = lease.slots()
                assert len(refs) == len(lease.sources) == lease.ready <= len(lease.keys)
                for key, ref in zip(lease.keys, refs, strict=False):
                    if ref in self.damaged:
                        assert self.store.arena.sealed(ref) is None
                    else:
                        assert self.bench.intact(key, ref)

    @invariant()
    def every_slot_has_one_owner(self) -> None:
        if not hasattr(self, "bench"):
            return
        ledger = self.store._ledger
        owned: dict[int, Any] = {}
        entries = list(ledger.entries.values())
        known = {id(entry) for entry in entries}
        for borrow in self.store._borrows:
            fetch = borrow.fetch if isinstance(borrow, Lease) else None
            for entry in [*borrow.entries, *(fetch.kept if fetch is not None else ())]:
                if id(entry) not in known:
                    entries.append(entry)
                    known.add(id(entry))
        for link in self.store._links.values():
            entries += [save.entry for save in link.waiting if id(save.entry) not in known]
            known |= {id(save.entry) for save in link.waiting}
        for entry in entries:
            for ref in (entry.slot, entry.landing):
                if ref is not None:
                    assert ref.offset not in owned, "two chunks in one slot"
                    assert self.store.arena.current(ref)
                    owned[ref.offset] = entry
        given = sum(nbytes for _, nbytes in ledger.room.tenants()) // self.store.chunk_bytes
        assert self.store.arena.used == given * (self.store.arena.capacity // SLOTS)
        # The rest belongs to loads whose chunk was cleared meanwhile; the teardown sees that they come back.
        assert len(owned) <= given <= SLOTS
        assert ledger.held == len({id(entry) for entry in entries if entry.holds})
        found = Counter(name for entry in ledger.entries.values() for name in entry.places)
        found[MEMORY] = sum(entry.slot is not None for entry in ledger.entries.values())
        assert +ledger.copies == +found

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        for borrow in [*self.leases, *self.reservations]:
            borrow.release() if isinstance(borrow, Lease) else borrow.abort()
        self.bench.jobs.run()
        self.bench.clock.now += 1000.0
        stats = self.store.stats()
        assert (stats.leases, stats.reservations, stats.held_chunks, stats.pinned_chunks) == (0, 0, 0, 0)
        self.store.clear()
        self.bench.jobs.run()
        assert self.store.arena.used == 0
        assert not self.store._ledger.entries
        assert self.tier.used() == 0
        self.store.close()


Interleavings.TestCase.settings = settings(
    max_examples=50, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestInterleavings = Interleavings.TestCase


def test_a_lease_that_is_never_released_ends_by_itself() -> None:
    bench = Bench(4, lease_seconds=10.0)
    keys: list[ChunkKey] = bench.keys(4)
    assert bench.save(keys) == 4
    lease = bench.store.lookup(keys, owner="forgetful")
    assert bench.save(bench.keys(4, start=5000)) == 0
    bench.clock.now += 11
    assert bench.save(bench.keys(4, start=5000)) == 4
    assert lease.state is BorrowState.EXPIRED
    with pytest.raises(RuntimeError, match="forgetful"):
        lease.slots()
    assert bench.store.stats().counters.expired_leases == 1
    bench.store.close()
