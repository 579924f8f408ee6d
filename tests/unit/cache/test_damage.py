"""Bits that flip in memory: the chunk is dropped, whoever holds it finds out, the next one gets it whole."""

from __future__ import annotations

import pytest

from cache.counters import MEMORY
from cache.keys import ChunkKey
from cache.lease import BorrowEnded
from cache.ledger import Event
from cache.settings import LinkSettings
from cache.store import Store
from cache.tiers.build import TierPlan
from tests.unit.cache.stores import Bench, content, plan, shared_tier


def flip(store: Store, key: ChunkKey) -> None:
    ref = store._ledger.entries[key].slot
    assert ref is not None
    store.arena.memory(ref)[7] ^= 16


def sound(bench: Bench, keys: list[ChunkKey]) -> int:
    with bench.store.lookup(keys, owner="test") as lease:
        return bench.store.verified(lease)


def test_what_nobody_holds_is_dropped_at_once_and_saved_again() -> None:
    bench = Bench()
    keys = bench.keys(4)
    bench.save(keys)
    list(bench.store.take_events())
    flip(bench.store, keys[2])
    assert sound(bench, keys) == 2
    assert bench.ready(keys) == 2, "not found any more"
    assert bench.store.take_events() == [Event(False, keys[2], MEMORY)]
    stats = bench.store.stats()
    assert (stats.tiers[MEMORY].chunks, stats.held_chunks) == (3, 0)
    assert stats.tiers[MEMORY].counters.faults == {"corrupt": 1}
    assert bench.save(keys) == 1
    assert sound(bench, keys) == 4
    bench.store.close()


def test_what_somebody_holds_goes_with_the_last_of_them() -> None:
    bench = Bench(4)
    keys = bench.keys(4)
    bench.save(keys)
    reader, other = (bench.store.lookup(keys, owner=name) for name in "ab")
    flip(bench.store, keys[1])
    with bench.store.lookup(keys, owner="c") as finder:
        assert bench.store.verified(finder) == 1
        assert bench.ready(keys) == 1
    assert bench.store.arena.sealed(reader.slots()[1]) is None, "a copy that is under way does not count"
    assert bench.save(keys) == 0, "its slot is not given to anybody yet"
    reader.release()
    assert bench.save(keys) == 0
    other.release()
    assert bench.save(keys) == 1
    assert sound(bench, keys) == 4
    for borrow in (reader, other):
        with pytest.raises(BorrowEnded):
            borrow.slots()
    stats = bench.store.stats()
    assert (stats.held_chunks, stats.leases) == (0, 0)
    bench.store.clear()
    assert bench.store.arena.used == 0
    bench.store.close()


def test_another_one_may_be_saved_while_the_damaged_one_is_still_held() -> None:
    bench = Bench(8)
    keys = bench.keys(2)
    bench.save(keys)
    reader = bench.store.lookup(keys, owner="reader")
    flip(bench.store, keys[0])
    assert sound(bench, keys) == 0
    assert bench.save(keys) == 1
    assert sound(bench, keys) == 2
    assert bench.store.arena.sealed(reader.slots()[0]) is None
    reader.release()
    assert sound(bench, keys) == 2
    assert bench.store.stats().held_chunks == 0
    bench.store.close()


@pytest.mark.parametrize("held", [False, True])
def test_it_is_filled_again_from_a_slower_tier(held: bool) -> None:
    bench = Bench(tiers=[plan(shared_tier())])
    keys = bench.keys(3)
    bench.save(keys)
    bench.jobs.run()
    reader = bench.store.lookup(keys, owner="reader") if held else None
    flip(bench.store, keys[1])
    assert sound(bench, keys) == 1
    assert bench.fetched(keys) == 3
    assert sound(bench, keys) == 3
    if reader is not None:
        reader.release()
    assert bench.store.stats().held_chunks == 0
    bench.store.close()


def test_a_pinned_one_is_dropped_too_and_its_successor_is_pinned() -> None:
    bench = Bench(4)
    keys = bench.keys(4)
    bench.save(keys)
    bench.store.pin(keys[:1], "owner", 60.0)
    with bench.store.lookup(keys[:1], owner="reader"):
        flip(bench.store, keys[0])
        assert sound(bench, keys) == 0
    assert bench.save(keys[:1]) == 1
    assert bench.save(bench.keys(4, start=5000)) == 3, "all but the pinned one may go"
    assert sound(bench, keys[:1]) == 1
    bench.store.close()


def test_what_is_encoded_for_a_tier_is_looked_at_first() -> None:
    packed = TierPlan(shared_tier(), LinkSettings(codec="lossless", batch=4))
    bench = Bench(tiers=[packed])
    keys = bench.keys(2)
    bench.save(keys)
    flip(bench.store, keys[0])
    bench.jobs.run()
    assert bench.ready(keys) == 0
    entry = bench.store._ledger.entries.get(keys[0])
    assert entry is None
    assert bench.store.stats().tiers["file"].counters.faults == {"corrupt": 1}
    assert (content(keys[1]) == bench.store.arena.memory(bench.store._ledger.entries[keys[1]].slot)).all()
    bench.store.close()
