"""Pins in a directory bind every process on it, until their end."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from cache.arena import SLOT_HEADER
from cache.keys import ChunkKey
from cache.settings import FileSettings, LinkSettings, MemorySettings, StoreSettings
from cache.store import Store
from cache.tiers.build import plan_tiers
from cache.tiers.pins import DirectoryPins
from cache.tiers.tier import Fault
from tests.unit.cache.stores import CHUNK_BYTES, LAYOUT, Bench, Jobs

FRAME = CHUNK_BYTES + 512
ROOM = 6


class Worker(Bench):
    """A store over the directory; transfers run when the test says so."""

    def __init__(self, directory: Path) -> None:
        memory = MemorySettings(bytes=16 * (CHUNK_BYTES + SLOT_HEADER), prefault=False)
        link = LinkSettings(batch=4, timeout_seconds=60.0)
        settings = StoreSettings(memory=memory, file=FileSettings(str(directory), ROOM * FRAME, link=link))
        self.jobs = Jobs()
        self.store = Store(
            LAYOUT, settings, tiers=plan_tiers(settings, CHUNK_BYTES), make_lane=self.jobs.lane
        )
        self.jobs.run()

    def saved(self, wanted: list[ChunkKey]) -> None:
        self.save(wanted)
        self.jobs.run()

    def in_files(self, wanted: list[ChunkKey]) -> int:
        answers = self.store._links["file"].contains(wanted)
        return sum(not isinstance(answer, Fault) for answer in answers)


def test_another_process_evicts_round_a_pin_and_takes_the_chunk_once_it_has_ended(tmp_path: Path) -> None:
    one, other = Worker(tmp_path), Worker(tmp_path)
    pinned = one.keys(3)
    one.saved(pinned)
    assert one.store.pin(pinned, "nightly", 3600.0) == 3
    one.jobs.run()
    for start in (1000, 2000, 3000):
        other.saved(other.keys(4, start=start))
    assert one.in_files(pinned) == 3
    assert other.in_files(other.keys(4, start=3000)) > 0, "it found room elsewhere"
    one.store.unpin(pinned, "nightly")
    one.jobs.run()
    for start in (4000, 5000):
        other.saved(other.keys(6, start=start))
    assert one.in_files(pinned) == 0
    one.store.close()
    other.store.close()


def test_a_pin_of_another_owner_remains(tmp_path: Path) -> None:
    one, other = Worker(tmp_path), Worker(tmp_path)
    pinned = one.keys(2)
    one.saved(pinned)
    one.store.pin(pinned, "a", 3600.0)
    one.store.pin(pinned, "b", 3600.0)
    one.store.unpin(pinned, "a")
    one.jobs.run()
    for start in (1000, 2000, 3000):
        other.saved(other.keys(4, start=start))
    assert one.in_files(pinned) == 2
    one.store.close()
    other.store.close()


PIN = """
import sys, time
from cache.tiers.pins import DirectoryPins
root, seconds, *keys = sys.argv[1:]
now = time.time()
DirectoryPins(root, now).pin([bytes.fromhex(key) for key in keys], "nightly", now + float(seconds))
"""


def test_a_pin_outlives_the_process_that_set_it_and_ends_by_itself(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    kept, ended = worker.keys(2), worker.keys(2, start=500)
    worker.saved([*kept, *ended])
    for seconds, keys in (("3600", kept), ("-1", ended)):
        words = [sys.executable, "-c", PIN, str(tmp_path), seconds, *(key.hex() for key in keys)]
        subprocess.run(words, check=True, timeout=120)
    for start in (1000, 2000, 3000):
        worker.saved(worker.keys(4, start=start))
    assert worker.in_files(kept) == 2
    assert worker.in_files(ended) == 0
    worker.store.close()
    assert len(list((tmp_path / "pins").iterdir())) == 2
    DirectoryPins(str(tmp_path), time.time() + 7200.0)
    assert not list((tmp_path / "pins").iterdir()), "swept by whoever opens the directory"
