"""Adaptive streaming on the tiers that it is for, with real servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from cache.codecs import registry
from cache.keys import ChunkKey, chunk_keys
from cache.ladder import Ladder, Rung
from cache.settings import LinkSettings, MemorySettings, StoreSettings
from cache.store import Store
from cache.tiers.build import TierPlan
from cache.tiers.tier import Fault
from tests.contract.tiers.conftest import MakeTier
from tests.contract.tiers.frames import CHUNK_BYTES, LAYOUT, deadline, namespace
from tests.unit.cache.stores import Jobs

RUNGS = (
    Rung("high", registry.make("int8"), 9.0, 0.001),
    Rung("small", registry.make("int2"), 3.0, 0.1),
)
AMPLE = 1e9
"""An SLO for which every link is fast enough once it has been measured."""

pytestmark = pytest.mark.parametrize("make_tier", ["valkey", "s3"], indirect=True)


class Opened:
    """A store over the tier, whose transfers run when the test says so."""

    def __init__(self, make_tier: MakeTier) -> None:
        self.jobs = Jobs()
        self.tier = make_tier()
        link = LinkSettings(batch=2, stream_seconds=AMPLE, timeout_seconds=60.0)
        memory = MemorySettings(bytes=8 * (CHUNK_BYTES + 64), prefault=False)
        settings = StoreSettings(memory=memory)
        self.store = Store(LAYOUT, settings, tiers=[TierPlan(self.tier, link)], make_lane=self.jobs.lane)
        digest = self.store.open_namespace(replace(namespace(), kind="small"), RUNGS[-1].codec)
        self.keys = chunk_keys(digest, list(range(6 * LAYOUT.block_tokens)), LAYOUT.block_tokens)

    def better(self) -> list[ChunkKey]:
        ladder = Ladder(self.keys[0][:16], RUNGS)
        return [ladder.key(key, 0) for key in self.keys]

    def save(self) -> None:
        reservation = self.store.reserve(self.keys)
        for ref in reservation.slots:
            assert ref is not None
            numbers = np.linspace(0.5, 1.5, CHUNK_BYTES // 2, dtype=np.float32)
            self.store.arena.memory(ref).view(np.uint16)[:] = (numbers.view(np.uint32) >> 16).astype(
                np.uint16
            )
            self.store.arena.seal(ref)
        assert reservation.commit() == 6
        self.jobs.run()

    def fetch(self) -> int:
        with self.store.lookup(self.keys, owner="test") as lease:
            self.store.fetch(lease, seconds=60.0)
            self.jobs.run()
            assert all(self.store.arena.verify(ref) for ref in lease.slots())
            return lease.ready


@pytest.fixture
def opened(make_tier: MakeTier, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Opened, Opened]]:
    """Two stores on one tier: what the first saves, the second has to fetch."""
    monkeypatch.setattr("cache.namespaces.ladder_of", lambda one: Ladder(one.digest(), RUNGS))
    both = Opened(make_tier), Opened(make_tier)
    yield both
    for one in both:
        one.store.arena.close()


def test_the_better_level_is_kept_and_fetched(opened: tuple[Opened, Opened]) -> None:
    writer, reader = opened
    writer.save()
    assert reader.fetch() == 6
    assert reader.store.streamed_levels() == {reader.tier.name: {"small": 2, "high": 4}}


def test_without_better_copies_the_level_asked_for_comes(opened: tuple[Opened, Opened]) -> None:
    writer, reader = opened
    writer.save()
    writer.tier.delete(writer.better(), deadline())
    assert reader.fetch() == 6
    assert reader.store.streamed_levels() == {reader.tier.name: {"small": 6}}


def test_clearing_leaves_nothing(opened: tuple[Opened, Opened]) -> None:
    writer, _ = opened
    writer.save()
    everywhere = [*writer.keys, *writer.better()]
    assert not any(isinstance(found, Fault) for found in writer.tier.contains(everywhere, deadline()))
    writer.store.clear(namespace=writer.keys[0][:16])
    writer.jobs.run()
    assert set(writer.tier.contains(everywhere, deadline())) == {Fault.ABSENT}
