"""An idle engine begins a request while its chunks are still on their way from a slower tier."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from tests.unit.cache.stores import Jobs, SharedMemoryTier, plan
from tests.unit.engine_adapter.vllm.engines import BLOCK, LAYOUT, Harness, request

TOKENS = list(range(17))


class Slow:
    """An engine whose first prompt is in a slower tier only, and transfers run when the test says so."""

    def __init__(self) -> None:
        self.jobs = Jobs()
        self.tier = SharedMemoryTier(1 << 20, LAYOUT.block_bytes)
        self.engine = Harness(tiers=[plan(self.tier)], make_lane=self.jobs.lane)
        first = request("a", TOKENS)
        self.prefill(first)
        self.engine.finish(first)
        self.pages = [self.engine.content(first, block).copy() for block in range(4)]
        self.jobs.run()
        store = self.engine.store
        for entry in list(store._ledger.entries.values()):
            assert store._ledger.drop(entry)
        for _ in range(4):
            store.economy.observe_prefill(1000, 0, 10.0)
            store.economy.observe_load("file", 4, 4 * LAYOUT.block_bytes, 0.0001)
        self.engine.pages[:] = 0

    def prefill(self, asked: SimpleNamespace) -> None:
        assert self.engine.admit(asked) is None  # other processes may have it: the tier is asked
        self.jobs.run()
        self.engine.prefill(asked)

    def begin(self, name: str) -> SimpleNamespace:
        asked = request(name, TOKENS)
        assert self.engine.admit(asked) == 4 * BLOCK
        return asked

    def step(self, asked: SimpleNamespace) -> set[int]:
        return self.engine.step({asked.request_id: (asked, asked.num_tokens - asked.num_computed_tokens)})


@pytest.fixture
def slow() -> Iterator[Slow]:
    made = Slow()
    yield made
    made.jobs.run()
    stats = made.engine.store.stats()
    assert (stats.leases, stats.reservations, stats.held_chunks) == (0, 0, 0)
    made.engine.close()


def test_what_comes_in_time_is_loaded_and_told_as_its_tier(slow: Slow) -> None:
    asked = slow.begin("b")
    slow.jobs.run()
    assert slow.step(asked) == set()
    for block, page in enumerate(slow.pages):
        assert np.array_equal(slow.engine.content(asked, block), page)
    assert slow.engine.finish(asked) == {"engine": 0, "file": 4 * BLOCK, "computed": 1}
    assert slow.engine.store.economy.counters.judged == 1


def test_what_does_not_come_is_computed(slow: Slow) -> None:
    asked = slow.begin("b")
    failed = slow.step(asked)
    assert failed == set(slow.engine.tables["b"][:4])
    assert failed <= slow.engine.evicted
    assert slow.engine.finish(asked) == {"engine": 0, "file": 0, "computed": 17}


def test_what_turns_out_to_be_damaged_is_computed(slow: Slow) -> None:
    keys = sorted(slow.tier._frames, key=lambda key: slow.engine.store._ledger.entries[key].position)
    ref, _ = slow.tier._frames[keys[2]]
    slow.tier._arena.memory(ref)[-1] ^= 1
    asked = slow.begin("b")
    slow.jobs.run()
    table = slow.engine.tables["b"]
    assert slow.step(asked) == {table[2]}
    assert set(table[2:4]) <= slow.engine.evicted
    assert slow.engine.store.stats().tiers["file"].counters.faults == {"corrupt": 1}
    assert slow.engine.finish(asked) == {"engine": 0, "file": 2 * BLOCK, "computed": 9}


def test_an_engine_that_has_other_work_does_not_wait(slow: Slow) -> None:
    running = request("r", [900 + number for number in range(9)])
    slow.prefill(running)
    asked = request("b", TOKENS)
    assert slow.engine.admit(asked) is None
    slow.jobs.run()
    assert slow.engine.admit(asked) == 4 * BLOCK
    assert slow.step(asked) == set()
    slow.engine.finish(asked)
    slow.engine.finish(running)


def test_an_engine_that_would_fail_the_request_takes_no_promises(slow: Slow) -> None:
    slow.engine.scheduler._recomputes = False
    asked = request("b", TOKENS)
    assert slow.engine.admit(asked) is None
    slow.jobs.run()
    assert slow.engine.admit(asked) == 4 * BLOCK
    slow.step(asked)
    slow.engine.finish(asked)


def test_what_memory_has_behind_it_is_verified_before_it_is_promised(slow: Slow) -> None:
    before = slow.begin("b")
    slow.jobs.run()
    slow.step(before)
    slow.engine.finish(before)
    store = slow.engine.store
    first, _, third, _ = sorted(store._ledger.entries.values(), key=lambda entry: entry.position)
    assert store._ledger.drop(first)
    assert third.slot is not None
    store.arena.memory(third.slot)[-1] ^= 1
    asked = request("c", TOKENS)
    assert slow.engine.admit(asked) == 2 * BLOCK, "one that comes, one that is there"
    slow.jobs.run()
    assert slow.step(asked) == set()
    for block, page in enumerate(slow.pages[:2]):
        assert np.array_equal(slow.engine.content(asked, block), page)
    slow.engine.finish(asked)
