#!/usr/bin/env python3
"""What the index of the KV store costs for chunks that only Valkey or S3 have: bytes of this process's memory
for each that is remembered, microseconds to learn of it and to forget it.

    python -m loadtests.kv_index --chunks 200000 --most 100000

No engine and no server take part: the entries are made as a probe makes them.
"""

from __future__ import annotations

import gc
import os
import time
import tracemalloc
from typing import Annotated

import typer

from cache.arena import Arena
from cache.index import Place
from cache.keys import KEY_BYTES, ChunkKey
from cache.ledger import Ledger
from cache.settings import NO_QUOTAS

app = typer.Typer(add_completion=False)


@app.command()
def main(
    chunks: Annotated[int, typer.Option(help="Chunks that are found, one after the other.")] = 200_000,
    most: Annotated[int, typer.Option(help="The setting `far_chunks`.")] = 100_000,
) -> None:
    arena = Arena(1 << 20, 1 << 16)
    ledger = Ledger(arena, "lru", NO_QUOTAS, lambda namespace: "")
    ledger.unbounded = frozenset({"valkey"})
    namespace = os.urandom(16)

    def learn(count: int) -> None:
        for _ in range(count):
            key = ChunkKey(namespace + os.urandom(KEY_BYTES - len(namespace)))
            ledger.placed(ledger.entry(key), "valkey", Place(98304, time.time()))
        ledger.events.clear()

    gc.collect()
    tracemalloc.start()
    learn(most)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    start = time.perf_counter()
    learn(chunks - most)
    learned = time.perf_counter()
    ledger.forget_far(most)
    forgotten = time.perf_counter()
    assert len(ledger.entries) == len(ledger.far) == most
    print(f"{most} chunks remembered: {held / most:.0f} bytes each, {held / 2**20:.0f} MiB")
    print(f"to learn of one: {1e6 * (learned - start) / (chunks - most):.2f} us")
    print(f"to forget one: {1e6 * (forgotten - learned) / (chunks - most):.2f} us")
    arena.close()


if __name__ == "__main__":
    app()
