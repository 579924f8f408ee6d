#!/usr/bin/env python3
"""What quotas in Valkey cost: microseconds to write a chunk with and without them, on a real server.

    python -m loadtests.kv_quota --chunk-kib 96 --chunks 112

Both write the same frames in turns over a Unix socket, best of `--rounds`; the quota of the tenant leaves
room for half of them, so that every write also evicts.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from cache.keys import KEY_BYTES, NAMESPACE_BYTES, ChunkKey
from cache.settings import LinkSettings, ValkeySettings
from cache.tiers.tier import Frame
from cache.tiers.valkey import ValkeyTier
from loadtests.bench.kv_servers import valkey

BATCH = 16
LINK = LinkSettings(timeout_seconds=60.0)
app = typer.Typer(add_completion=False)


def written(tier: ValkeyTier, frames: list[Frame]) -> float:
    """Seconds for all of them."""
    start = time.perf_counter()
    for first in range(0, len(frames), BATCH):
        answers = tier.put(frames[first : first + BATCH], time.monotonic() + 60.0)
        assert not any(answers), answers
    return time.perf_counter() - start


@app.command()
def main(
    chunk_kib: Annotated[int, typer.Option(help="Of a chunk.")] = 96,
    chunks: Annotated[int, typer.Option(help="In a round.")] = 112,
    rounds: Annotated[int, typer.Option(help="Of which the best counts.")] = 8,
) -> None:
    payload = np.random.default_rng(1).integers(0, 256, chunk_kib << 10, dtype=np.uint8)
    namespace = os.urandom(NAMESPACE_BYTES)
    frames = [
        Frame(ChunkKey(namespace + os.urandom(KEY_BYTES - NAMESPACE_BYTES)), bytes(512), payload, "tenant")
        for _ in range(chunks)
    ]
    with tempfile.TemporaryDirectory() as directory, valkey(Path(directory)) as url:
        quota = chunks // 2 * frames[0].nbytes
        tiers = {
            "without quotas": ValkeyTier(ValkeySettings(url, prefix="free:", link=LINK)),
            "with a tenant's": ValkeyTier(
                ValkeySettings(url, prefix="bound:", link=LINK, tenant_bytes=quota), lambda digest: "tenant"
            ),
        }
        best = dict.fromkeys(tiers, float("inf"))
        for _ in range(rounds):
            for name, tier in tiers.items():
                best[name] = min(best[name], written(tier, frames))
        for name, seconds in best.items():
            print(f"{name}: {1e6 * seconds / chunks:.0f} us a chunk")
        assert tiers["with a tenant's"].used_by() == {"tenant": quota}
        for tier in tiers.values():
            tier.close()


if __name__ == "__main__":
    app()
