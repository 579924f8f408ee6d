"""Adaptive streaming from a real Valkey over a link of limited rate, beside fixed levels and recomputing.

The store, the codecs, the server and the KV (a held-out context through a shipped model) are real; the link
is a token bucket on the loopback. Measured is the time until all KV of the context is decoded in the arena:
time to first token less what the engine adds. Recomputing is a plain prefill of the same model in PyTorch.

    python -m loadtests.kv_stream --json stream.json
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer

from cache.codecs.levels import Level, levels_for
from cache.keys import ChunkKey, Namespace, chunk_keys
from cache.settings import LinkSettings, MemorySettings, StoreSettings, ValkeySettings
from cache.store import Store
from engine_adapter.calibration.contexts import BENCH_SEED, worlds
from engine_adapter.calibration.kv import exact_kv, layout_of, to_view
from engine_adapter.calibration.session import Session
from engine_adapter.demo.family import folder
from loadtests.bench.kv_servers import valkey
from loadtests.kv.limited_link import Link, Rate, limited_link

MBIT = 1e6 / 8
ADAPTIVE = "adaptive"
FLOOR = "small"
"""What the adaptive requests ask for at least."""
FIXED = ("high", "balanced", "small")
PATIENCE = 60.0


def _dip(seconds: float) -> float:
    return (0.4 if 1.0 <= seconds < 2.5 else 3) * MBIT


LINKS: Mapping[str, Rate] = {
    "0.75 Mbit/s": lambda seconds: 0.75 * MBIT,
    "1.5 Mbit/s": lambda seconds: 1.5 * MBIT,
    "4 Mbit/s": lambda seconds: 4 * MBIT,
    "3 Mbit/s, 0.4 from 1 to 2.5 s": _dip,
}
"""Slow, because the KV of the shipped models is small."""


@dataclass(frozen=True, slots=True)
class Run:
    """One context over the link."""

    link: str
    policy: str
    seconds: float
    nbytes: int
    levels: dict[str, int]
    """Chunks."""
    damage: float
    """Mean KL of the levels as measured with them, by chunks."""
    load: float
    """Of the machine, processes."""


class Trial:
    """The KV of one context, in the server at every level."""

    def __init__(self, session: Session, tokens: int, slo: float, server: str) -> None:
        (context,) = worlds(session.tokenizer, 1, [tokens], BENCH_SEED)
        began = time.perf_counter()
        kv = exact_kv(session.model, context.prompt)
        self.recompute_seconds = time.perf_counter() - began
        self.slo = slo
        self.layout = layout_of(session.model)
        self.weights = session.weights
        self.levels: Mapping[str, Level] = {str(name): one for name, one in levels_for(self.weights).items()}
        if not all(self.levels[kind].measured for kind in FIXED):
            raise typer.BadParameter("no tables belong to this model; make some with `sluice codec train`")
        self.prompt = context.prompt
        self.chunks = len(context.prompt) // self.layout.block_tokens
        self.blocks = [
            to_view(self.layout, kv, number * self.layout.block_tokens, 1) for number in range(self.chunks)
        ]
        for kind in FIXED:
            self._save(server, kind, kind == FLOOR)

    @contextmanager
    def store(self, url: str, kind: str, adaptive: bool) -> Iterator[tuple[Store, list[ChunkKey]]]:
        """A store with an empty arena, and the context's keys."""
        link = LinkSettings(timeout_seconds=PATIENCE, stream_seconds=self.slo if adaptive else None)
        memory = MemorySettings(bytes=(self.chunks + 8) * (self.layout.block_bytes + 4096))
        store = Store(self.layout, StoreSettings(memory=memory, valkey=ValkeySettings(url=url, link=link)))
        try:
            namespace = Namespace(
                "model", self.weights, "", "bfloat16", {}, self.layout.fingerprint(), kind=kind
            )
            digest = store.open_namespace(namespace, self.levels[kind].build())
            yield store, chunk_keys(digest, self.prompt, self.layout.block_tokens)
        finally:
            store.close()

    def _save(self, url: str, kind: str, adaptive: bool) -> None:
        with self.store(url, kind, adaptive) as (store, keys):
            reservation = store.reserve(keys)
            for block, ref in zip(self.blocks, reservation.slots, strict=True):
                if ref is None:
                    raise RuntimeError("the arena is too small for the context")
                memory = store.arena.memory(ref).view(np.uint16)
                np.copyto(memory, np.concatenate([page.reshape(-1) for page in block.pages]))
                store.arena.seal(ref)
            reservation.commit()
            wanted = len(keys) * (len(FIXED) if adaptive else 1)
            deadline = time.monotonic() + PATIENCE
            while (saved := store.stats().tiers["valkey"].counters.saves) < wanted:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"only {saved} of {wanted} frames were saved")
                time.sleep(0.05)

    def run(self, link: Link, name: str, policy: str) -> Run:
        """Bring the context once. Raises RuntimeError if not all of it came."""
        kind = FLOOR if policy == ADAPTIVE else policy
        with self.store(f"redis://127.0.0.1:{link.port}", kind, policy == ADAPTIVE) as (store, keys):
            lease = store.lookup(keys, owner="loadtest")
            link.restart(LINKS[name])
            began = time.perf_counter()
            store.fetch(lease, seconds=PATIENCE)
            lease.wait(PATIENCE)
            seconds = time.perf_counter() - began
            if lease.ready < len(keys):
                raise RuntimeError(f"only {lease.ready} of {len(keys)} chunks came")
            lease.release()
            nbytes = store.stats().tiers["valkey"].counters.read_bytes
            levels = store.streamed_levels().get("valkey") or {kind: len(keys)}
        damage = sum(count * float(self.levels[one].measured["kl"]) for one, count in levels.items())
        return Run(name, policy, seconds, nbytes, levels, damage / len(keys), os.getloadavg()[0])


def main(
    model: Annotated[str, typer.Option(help="A shipped model's name, or the folder of a Llama.")] = "base",
    tokens: Annotated[int, typer.Option(help="Of the context.")] = 3400,
    slo: Annotated[float, typer.Option(help="Seconds that the adaptive fetch aims at.")] = 4.0,
    rounds: Annotated[int, typer.Option(help="Every link with every policy so many times.")] = 3,
    out: Annotated[Path | None, typer.Option("--json", help="Write every run here.")] = None,
) -> None:
    """Measure, and print medians as Markdown."""
    place = Path(model) if Path(model).is_dir() else folder(model)
    with tempfile.TemporaryDirectory() as directory, valkey(Path(directory)) as url:
        trial = Trial(Session.open(place, threads=1), tokens, slo, url)
        with limited_link(url.removeprefix("unix://")) as link:
            for policy in (*FIXED, ADAPTIVE):  # what is compiled and built once is no part of any run
                trial.run(link, "4 Mbit/s", policy)
            runs = [
                trial.run(link, name, policy)
                for _ in range(rounds)
                for name in LINKS
                for policy in (*FIXED, ADAPTIVE)
            ]
    typer.echo(f"{trial.chunks} chunks; recomputing took {trial.recompute_seconds:.2f} s; SLO {slo:g} s\n")
    for line in table(runs, slo):
        typer.echo(line)
    if out is not None:
        figures = {"slo": slo, "chunks": trial.chunks, "recompute_seconds": trial.recompute_seconds}
        out.write_text(json.dumps(figures | {"runs": [asdict(run) for run in runs]}, indent=1) + "\n")


def table(runs: Sequence[Run], slo: float) -> Iterator[str]:
    """One row per link and policy."""
    yield "| Link | Policy | Median s (least - most) | In time | MB | Mean KL, 1e-3 nats |"
    yield "|---|---|---|---|---|---|"
    for link, policy in dict.fromkeys((run.link, run.policy) for run in runs):
        mine = [run for run in runs if (run.link, run.policy) == (link, policy)]
        times = [run.seconds for run in mine]
        in_time = sum(one <= slo for one in times)
        yield (
            f"| {link} | {policy} | {median(times):.2f} ({min(times):.2f} - {max(times):.2f})"
            f" | {in_time} of {len(mine)} | {median(run.nbytes for run in mine) / 1e6:.2f}"
            f" | {1e3 * median(run.damage for run in mine):.2f} |"
        )


if __name__ == "__main__":
    typer.run(main)
