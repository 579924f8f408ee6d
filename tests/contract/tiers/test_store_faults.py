"""A store over a tier in which everything goes wrong: misses and counters, never wrong bytes, never a
hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cache.keys import ChunkKey
from cache.settings import LinkSettings, MemorySettings, StoreSettings
from cache.store import Store
from cache.tiers.build import TierPlan
from cache.tiers.faulty import FaultyTier, Mischief, Operation
from cache.tiers.file import FileTier
from cache.tiers.tier import Fault
from tests.contract.tiers.frames import CHUNK_BYTES, LAYOUT, keys, namespace, payload

PATIENCE = 120.0
"""Seconds that a loaded machine may take for what is immediate elsewhere."""


class Trial:
    """A store with one file tier that can be told to misbehave, and real threads."""

    def __init__(self, directory: Path, **link: object) -> None:
        self.directory = directory
        self.link = LinkSettings(**({"failures_to_open": 1000} | link))  # type: ignore[arg-type]
        self.tier: FaultyTier
        self.store: Store
        self.open()

    def open(self) -> None:
        self.tier = FaultyTier(FileTier(str(self.directory), 4 << 20), lambda operation, key: None)
        self.store = Store(
            LAYOUT,
            StoreSettings(
                memory=MemorySettings(bytes=64 * (CHUNK_BYTES + 64), prefault=False), miss_memory_seconds=0.0
            ),
            tiers=[TierPlan(self.tier, self.link)],
        )
        self.store.open_namespace(namespace())

    def reopen(self) -> None:
        """As after a restart: an empty arena over the same directory."""
        self.store.close()
        self.open()

    def save(self, wanted: list[ChunkKey]) -> None:
        reservation = self.store.reserve(wanted)
        for seed, ref in enumerate(reservation.slots):
            assert ref is not None
            np.copyto(self.store.arena.memory(ref), payload(seed))
            self.store.arena.seal(ref)
        assert reservation.commit() == len(wanted)
        self.until(lambda: not self.store._links["file"].saving)

    def load(self, wanted: list[ChunkKey], seconds: float = PATIENCE) -> int:
        """How many leading chunks came; those that did are what was saved."""
        with self.store.lookup(wanted, owner="test") as lease:
            self.store.fetch(lease, seconds=seconds)
            assert lease.wait(PATIENCE)
            for seed, ref in enumerate(lease.slots()):
                assert self.store.arena.verify(ref)
                assert self.store.arena.memory(ref).tobytes() == payload(seed).tobytes()
            return lease.ready

    def faults(self) -> dict[str, int]:
        return self.store.stats().tiers["file"].counters.faults

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline
            time.sleep(0.002)


def only(
    operation: Operation, key: ChunkKey, mischief: Mischief
) -> Callable[[str, ChunkKey], Mischief | None]:
    return lambda asked, which: mischief if (asked, which) == (operation, key) else None


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    trial = Trial(tmp_path / "kv")
    yield trial
    trial.tier.resume()
    trial.store.close()


@pytest.mark.parametrize(
    ("mischief", "fault"),
    [
        (Mischief.SHORT_READ, Fault.CORRUPT),
        (Mischief.FLIPPED_BIT, Fault.CORRUPT),
        (Mischief.FLIPPED_HEAD_BIT, Fault.CORRUPT),
        (Mischief.OTHER_LAYOUT, Fault.LAYOUT),
        (Mischief.OTHER_KEY, Fault.KEY),
        (Mischief.TIMEOUT, Fault.TIMEOUT),
        (Mischief.GONE, Fault.GONE),
        (Mischief.RAISES, Fault.IO),
    ],
)
def test_a_chunk_that_cannot_be_read_right_is_a_miss(trial: Trial, mischief: Mischief, fault: Fault) -> None:
    wanted = keys(40)
    trial.save(wanted)
    trial.reopen()
    trial.tier.script = only("get", wanted[20], mischief)
    ready = trial.load(wanted)
    assert ready == 20 if mischief is not Mischief.RAISES else ready <= 20
    assert trial.faults()[fault] >= 1
    assert trial.store.stats().held_chunks == 0


def test_a_torn_write_is_found_when_it_is_read_and_then_removed(trial: Trial) -> None:
    wanted = keys(5)
    trial.tier.script = only("put", wanted[2], Mischief.TORN_WRITE)
    trial.save(wanted)
    trial.reopen()
    assert trial.load(wanted) == 2
    assert trial.faults() == {Fault.TORN: 1}
    trial.until(lambda: trial.tier.contains([wanted[2]], time.monotonic() + PATIENCE) == [Fault.ABSENT])


def test_a_full_disk_loses_saves_and_nothing_else(trial: Trial) -> None:
    wanted = keys(5)
    trial.tier.script = lambda operation, key: Mischief.FULL if operation == "put" else None
    trial.save(wanted)
    assert trial.load(wanted) == 5
    assert trial.faults()[Fault.FULL] >= 5
    assert trial.store.stats().tiers["file"].counters.dropped == 5


def test_a_hanging_tier_delays_nobody_past_the_deadline(trial: Trial) -> None:
    wanted = keys(5)
    trial.save(wanted)
    trial.reopen()
    trial.until(lambda: trial.store.stats().tiers["file"].chunks == 5)
    trial.tier.script = only("get", wanted[0], Mischief.HANGS)
    with trial.store.lookup(wanted, owner="test") as lease:
        trial.store.fetch(lease, seconds=0.05)
        trial.until(lambda: lease.done)
        assert lease.ready == 0
    assert trial.store.stats().held_chunks == 0
    trial.tier.script = lambda operation, key: None
    trial.tier.resume()
    assert trial.load(wanted) == 5


def test_a_dead_tier_is_left_alone(tmp_path: Path) -> None:
    trial = Trial(tmp_path / "kv", failures_to_open=2, retry_seconds=3600.0)
    asked: list[str] = []

    def dead(operation: str, key: ChunkKey) -> Mischief:
        asked.append(operation)
        return Mischief.GONE

    trial.tier.script = dead
    for start in range(0, 100_000, 1000):
        assert trial.load(keys(2, start=start)) == 0
    assert len(asked) <= 2 * 4
    assert not trial.store.health()["file"]
    trial.store.close()


def test_threads_end_with_the_store(tmp_path: Path) -> None:
    trial = Trial(tmp_path / "kv")
    trial.save(keys(4))
    mine = [thread for thread in threading.enumerate() if thread.name.startswith("sluice-kv")]
    assert mine
    trial.store.close()
    trial.until(lambda: not any(thread.is_alive() for thread in mine))
