#!/usr/bin/env python3
"""What `memory.prefault` buys and costs: seconds of a start, memory taken at once, what the first copy into a
page takes longer than the next.

    python -m loadtests.kv_prefault --mib 2048 --chunk-kib 96

Figures are processor time of this thread; no engine takes part.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from cache import arena as arenas
from cache.arena import Arena, SlotRef

PROMPT = 110
"""Chunks."""
PREFILL_SECONDS = 0.1
"""While it is computed somebody else makes memory ready."""
app = typer.Typer(add_completion=False)


def shared_mib() -> float:
    """What this process has of shared memory."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssShmem"))
    return int(line.split()[1]) / 1024


def copies(arena: Arena, chunk: np.ndarray[tuple[int], np.dtype[np.uint8]], count: int) -> float:
    """Microseconds for each of `count` copies into slots of their own, a prompt's at a time."""
    refs: list[SlotRef] = []
    seconds = 0.0
    while len(refs) < count:
        prompt = arena.allocate_whole(PROMPT)
        time.sleep(PREFILL_SECONDS)
        start = time.thread_time()
        for ref in prompt:
            arena.memory(ref)[:] = chunk
        seconds += time.thread_time() - start
        refs += prompt
    for ref in refs:
        arena.free(ref)
    return 1e6 * seconds / len(refs)


@app.command()
def main(
    mib: Annotated[int, typer.Option(help="Of the arena.")] = 2048,
    chunk_kib: Annotated[int, typer.Option(help="Of a chunk.")] = 96,
    chunks: Annotated[int, typer.Option(help="Copied, as many as a long prompt has.")] = 2000,
) -> None:
    chunk = np.random.default_rng(1).integers(0, 256, chunk_kib << 10, dtype=np.uint8)
    ahead = arenas._AHEAD_BYTES
    for name, prefault in (
        ("as it fills", False),
        ("ahead of use (prefault: false)", False),
        ("prefault: true", True),
    ):
        arenas._AHEAD_BYTES = mib << 20 if name == "as it fills" else ahead
        before, wall = shared_mib(), time.perf_counter()
        arena = Arena(mib << 20, chunk_kib << 10, prefault=prefault)
        wall = time.perf_counter() - wall
        taken = shared_mib() - before
        first = copies(arena, chunk, chunks)
        again = min(copies(arena, chunk, chunks) for _ in range(3))
        print(
            f"{name}: start {wall:.3f} s, {taken:.0f} MiB taken at once; a chunk copied "
            f"{first:.1f} us the first time, {again:.1f} us from then on"
        )
        arena.close()


if __name__ == "__main__":
    app()
