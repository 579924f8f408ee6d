#!/usr/bin/env python3
"""What the KV store itself costs: microseconds per chunk of its calls, and bytes per second of every tier.

    python -m loadtests.kv_store
    python -m loadtests.kv_store --chunk-kib 384 --chunks 110 --tiers memory,packed,file,valkey,s3 --markdown

No engine takes part. Valkey and S3 are real servers started here on this machine's loopback (`redis-server`,
`rclone`), so their figures are those of the client, the copies and the checksums, not of a network.
Everything is in the page cache: the file figure is of the code and memory, not of a disk. Best of `--rounds`,
because the machine may be shared.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from cache.keys import ChunkKey, Namespace, chunk_keys
from cache.layout import KVLayout
from cache.settings import (
    FileSettings,
    LinkSettings,
    MemorySettings,
    ObjectSettings,
    PackSettings,
    StoreSettings,
    ValkeySettings,
)
from cache.store import Store
from loadtests.bench.kv_servers import ACCESS, SECRET, s3, valkey

BUCKET = "kv"
WAIT_SECONDS = 120.0
app = typer.Typer(add_completion=False)


class Figures:
    """Best times by name, in seconds for all chunks."""

    def __init__(self) -> None:
        self.best: dict[str, float] = {}

    def add(self, name: str, seconds: float) -> None:
        self.best[name] = min(seconds, self.best.get(name, seconds))

    def time(self, name: str, work: Callable[[], object]) -> None:
        start = time.perf_counter()
        work()
        self.add(name, time.perf_counter() - start)


@app.command()
def measure(
    chunk_kib: Annotated[int, typer.Option(help="Size of a raw chunk.")] = 384,
    chunks: Annotated[int, typer.Option(help="Per request.")] = 110,
    tiers: Annotated[str, typer.Option(help="By commas.")] = "memory,packed,file,valkey,s3",
    rounds: Annotated[int, typer.Option(help="Repetitions, of which the best counts.")] = 5,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables for a document.")] = False,
) -> None:
    """Measure the store."""
    layout = KVLayout(12, 4, 64, "bfloat16", chunk_kib // 12, "plain")
    figures = Figures()
    with tempfile.TemporaryDirectory() as directory:
        for number in range(rounds):
            memory_calls(layout, chunks, figures, number)
        for name in tiers.split(","):
            if name == "memory":
                continue
            with settings_of(name, Path(directory)) as link:
                for number in range(rounds):
                    tier_transfers(layout, chunks, name, link, figures, number)
    report(figures, chunks, chunks * layout.block_bytes, markdown)


def memory_calls(layout: KVLayout, chunks: int, figures: Figures, number: int) -> None:
    """The calls that an engine's scheduler and worker make when everything is in the arena."""
    store = Store(layout, arena_for(layout, chunks))
    tokens = list(range(number, number + chunks * layout.block_tokens))
    namespace = store.open_namespace(namespace_of(layout))
    figures.time("chunk_keys", lambda: chunk_keys(namespace, tokens, layout.block_tokens))
    keys = chunk_keys(namespace, tokens, layout.block_tokens)
    start = time.perf_counter()
    reservation = store.reserve(keys)
    figures.add("reserve", time.perf_counter() - start)
    refs = [ref for ref in reservation.slots if ref is not None]
    source = np.random.default_rng(number).integers(0, 256, store.chunk_bytes, dtype=np.uint8)
    figures.time("copy in", lambda: [np.copyto(store.arena.memory(ref), source) for ref in refs])
    figures.time("seal", lambda: [store.arena.seal(ref) for ref in refs])
    figures.time("commit", reservation.commit)
    start = time.perf_counter()
    lease = store.lookup(keys, owner="loadtest")
    figures.add("lookup", time.perf_counter() - start)
    assert lease.ready == chunks
    figures.time("verify", lambda: [store.arena.verify(ref) for ref in refs])
    figures.time("copy out", lambda: [np.copyto(source, store.arena.memory(ref)) for ref in refs])
    figures.time("release", lease.release)
    figures.time("lookup, miss", lambda: store.lookup(keys[::-1], owner="loadtest"))
    store.close()


def tier_transfers(
    layout: KVLayout, chunks: int, name: str, settings: StoreSettings, figures: Figures, number: int
) -> None:
    """Save a request's chunks through to a tier, and load them into a fresh arena."""
    tokens = list(range(number, number + chunks * layout.block_tokens))
    store = Store(layout, settings)
    keys = chunk_keys(store.open_namespace(namespace_of(layout)), tokens, layout.block_tokens)
    fill(store, keys, number)
    start = time.perf_counter()
    until(lambda: store.stats().tiers[name].counters.saves >= chunks)
    figures.add(f"{name}: save", time.perf_counter() - start)
    if name == "packed":
        store.relocation.move(keys, "memory", "packed", seconds=WAIT_SECONDS)
    else:
        store.close()
        store = Store(layout, settings)
        store.open_namespace(namespace_of(layout))
        until(
            lambda: (
                store.stats().tiers[name].capacity_bytes is None or store.stats().tiers[name].chunks >= chunks
            )
        )
    start = time.perf_counter()
    with store.lookup(keys, owner="loadtest") as lease:
        store.fetch(lease, seconds=WAIT_SECONDS)
        assert lease.wait(WAIT_SECONDS)
        figures.add(f"{name}: load", time.perf_counter() - start)
        assert lease.ready == chunks, store.stats()
    store.close()


def fill(store: Store, keys: list[ChunkKey], seed: int) -> None:
    """Save chunks of random bytes."""
    rng = np.random.default_rng(seed)
    reservation = store.reserve(keys)
    for ref in reservation.slots:
        assert ref is not None
        store.arena.memory(ref)[:] = rng.integers(0, 256, store.chunk_bytes, dtype=np.uint8)
        store.arena.seal(ref)
    assert reservation.commit() == len(keys)


def until(done: Callable[[], bool]) -> None:
    """Wait for transfers on other threads."""
    deadline = time.perf_counter() + WAIT_SECONDS
    while not done():
        if time.perf_counter() > deadline:
            raise SystemExit("the transfers do not end")
        time.sleep(0.0005)


def namespace_of(layout: KVLayout) -> Namespace:
    """A namespace of no model."""
    return Namespace("loadtest", "none", "", layout.dtype, {}, layout.fingerprint())


def arena_for(layout: KVLayout, chunks: int, **tiers: object) -> StoreSettings:
    """Settings whose arena holds the chunks twice."""
    memory = MemorySettings(bytes=2 * (chunks + 16) * (layout.block_bytes + 64))
    return StoreSettings(memory=memory, **tiers)  # type: ignore[arg-type]


@contextmanager
def settings_of(name: str, directory: Path) -> Iterator[StoreSettings]:
    """Settings with one tier, its server running."""
    memory = MemorySettings(bytes=512 << 20)
    if name == "packed":
        pack = PackSettings(bytes=256 << 20, link=LinkSettings(write="through"))
        yield StoreSettings(memory=MemorySettings(bytes=512 << 20, pack=pack))
    elif name == "file":
        yield StoreSettings(memory=memory, file=FileSettings(str(directory / "kv"), 4 << 30))
    elif name == "valkey":
        (directory / "valkey").mkdir()
        with valkey(directory / "valkey") as url:
            yield StoreSettings(memory=memory, valkey=ValkeySettings(url))
    elif name == "s3":
        os.environ.update(AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET)
        link = LinkSettings(write="through", timeout_seconds=30)
        with s3(directory, BUCKET) as endpoint:
            yield StoreSettings(
                memory=memory, object=ObjectSettings(f"s3://{BUCKET}/kv", endpoint, "us-east-1", link)
            )
    else:
        raise SystemExit(f"no tier is called {name}")


def report(figures: Figures, chunks: int, nbytes: int, markdown: bool) -> None:
    """Print a table."""
    bar = " | " if markdown else "  "
    edge = "| " if markdown else ""
    size = nbytes / chunks / 1024
    title = f"{chunks} chunks of {size:.0f} KiB"
    typer.echo(f"{edge}{title:<22}{bar}ms for all{bar}us a chunk{bar}GB/s{edge and ' |'}")
    if markdown:
        typer.echo("|---|---|---|---|")
    for name, seconds in figures.best.items():
        moves = ":" in name or name in ("copy in", "copy out", "seal", "verify")
        rate = f"{nbytes / seconds / 1e9:.2f}" if moves else "-"
        typer.echo(
            f"{edge}{name:<22}{bar}{seconds * 1e3:>10.3f}{bar}{seconds / chunks * 1e6:>10.2f}{bar}{rate:>4}"
            f"{edge and ' |'}"
        )


if __name__ == "__main__":
    app()
