"""A store that is killed in the middle of saving: what comes after finds whole chunks or none."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from cache.settings import FileSettings, MemorySettings, StoreSettings
from cache.store import Store
from tests.contract.tiers.frames import CHUNK_BYTES, LAYOUT, keys, namespace, payload

CAPACITY = 4 << 20
SAVER = textwrap.dedent("""
    import itertools, sys, time
    import numpy as np
    from cache.settings import FileSettings, MemorySettings, StoreSettings
    from cache.store import Store
    from tests.contract.tiers.frames import LAYOUT, keys, namespace, payload
    memory = MemorySettings(bytes=64 << 10)
    store = Store(LAYOUT, StoreSettings(memory=memory, file=FileSettings(sys.argv[1], int(sys.argv[2]))))
    store.open_namespace(namespace())
    for start in itertools.cycle(range(0, 40_000, 1000)):
        store.clear(keys=keys(6, start=start))
        reservation = store.reserve(keys(6, start=start))
        for seed, ref in enumerate(reservation.slots):
            if ref is not None:
                np.copyto(store.arena.memory(ref), payload(seed))
                store.arena.seal(ref)
        reservation.commit()
        time.sleep(0.002)  # a loop that never waits starves the threads that write
        print(store.stats().tiers["file"].counters.saves, flush=True)
""")


def test_kill_9_in_the_middle_of_saves(tmp_path: Path) -> None:
    saver = subprocess.Popen(
        [sys.executable, "-c", SAVER, str(tmp_path / "kv"), str(CAPACITY)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert saver.stdout is not None
    while int(saver.stdout.readline()) < 60:
        pass
    saver.kill()
    saver.wait()
    saver.stdout.close()
    memory = MemorySettings(bytes=64 * (CHUNK_BYTES + 64), prefault=False)
    settings = StoreSettings(memory=memory, file=FileSettings(str(tmp_path / "kv"), CAPACITY))
    store = Store(LAYOUT, settings)
    store.open_namespace(namespace())
    found = 0
    for start in range(0, 40_000, 1000):
        with store.lookup(keys(6, start=start), owner="test") as lease:
            store.fetch(lease, seconds=60.0)
            assert lease.wait(120.0)
            for seed, ref in enumerate(lease.slots()):
                assert store.arena.memory(ref).tobytes() == payload(seed).tobytes()
            found += lease.ready
    stats = store.stats().tiers["file"]
    assert found > 0
    assert stats.counters.faults == {}
    assert stats.used_bytes <= CAPACITY
    store.close()
