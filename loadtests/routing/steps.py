"""The longest time that routing keeps the event loop: `python -m loadtests.routing.steps`.

Every step is one synchronous call of the gateway's event loop. CPU time of this thread, so that other
processes do not count; the collector is set as in the gateway. The index is full: a day of distinct prompts
went through it before, and its workers' caches are taken to be endless, so that only the bound holds it back.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import msgspec

from engine_adapter.api import WorkerInfo
from gateway.routing.assignment import RouteRequest
from gateway.routing.fleet import Fleet
from gateway.routing.kv_source import EventSource
from gateway.routing.peers import PeerExchange
from gateway.routing.router import Router
from gateway.routing.settings import RoutingSettings

DAY = 86_400
"""One request a second."""
PROMPT, LONG = 8_192, 524_288
BLOCK_TOKENS = 16


class Bench:
    """A router with a full index, and the time of every step by name, in microseconds."""

    def __init__(self, workers: int = 8) -> None:
        self.infos = [
            WorkerInfo(f"w{n}", f"http://10.0.0.{n}:8000", kv_events=f"tcp://10.0.0.{n}:5557")
            for n in range(workers)
        ]
        self.fleet = Fleet()
        self.router = Router(self.fleet, RoutingSettings(seed=0, cache_tokens=10**12))
        self.times: dict[str, list[float]] = {}
        self._now = count()
        self.fleet.update(self.infos)
        self._ready()
        self.sources = [EventSource(s, s.worker.kv_events or "", 10**7) for s in self.router.states()]
        for source in self.sources:
            source.caught_up()

    def _ready(self) -> None:
        for worker in self.fleet:
            worker.models, worker.health = ("m",), "ready"

    def step(self, name: str, what: Callable[[], object]) -> object:
        """Run and time one step."""
        begun = time.thread_time_ns()
        result = what()
        self.times.setdefault(name, []).append((time.thread_time_ns() - begun) / 1000)
        return result

    def request(self, name: str, body: bytes) -> None:
        """A request from its assignment to its end."""
        now = float(next(self._now))
        request = RouteRequest("m", b"", body)
        routed = self.step(f"{name}: assign", lambda: self.router.assign(request, now))
        self.step(f"{name}: first byte", lambda: routed.first_byte(now + 0.1))  # type: ignore[attr-defined]
        self.step(f"{name}: finish", lambda: routed.finish(now + 0.2, "ok", len(body) // 4, 0, 10))  # type: ignore[attr-defined]

    def events(self, blocks: int) -> None:
        """A KV event batch of so many blocks at every worker, and their removal."""
        for source in self.sources:
            for payload in _batches([int.from_bytes(os.urandom(8), "big") for _ in range(blocks)]):
                self._apply(source, payload, f"KV events, {blocks} blocks")

    def _apply(self, source: EventSource, payload: bytes, name: str) -> None:
        source.offer(source.sequence.expected)
        parts = self.step(f"{name}: decode", lambda: source.apply(payload))
        for part in parts:  # type: ignore[attr-defined]
            self.step(f"{name}: one slice", lambda p=part: source.apply_slice(p, 0.0))  # type: ignore[misc]

    def peers(self) -> None:
        """Another gateway tells of 128k-token prompts."""
        other = Router(self.fleet, RoutingSettings(seed=1))
        other.peers = PeerExchange("other", other.states)
        mine = PeerExchange("mine", self.router.states)
        for n in range(200):
            other.assign(RouteRequest("m", b"", os.urandom(LONG)), float(n))
            while (message := other.peers.drain()) is not None:
                self.step("peers: one message", lambda m=message: mine.receive(m, 0.0))  # type: ignore[misc]

    def changes(self) -> None:
        """Workers restart, leave and join, each followed by requests that work off what that left."""
        for n, info in enumerate(self.infos):
            others = [*self.infos[:n], *self.infos[n + 1 :]]
            restarted = [*others, replace(info, generation=1)]
            self.step("a worker restarts", lambda r=restarted: self.fleet.update(r))  # type: ignore[misc]
            self.step("a worker leaves", lambda o=others: self.fleet.update(o))  # type: ignore[misc]
            self.step("a worker joins", lambda: self.fleet.update(self.infos))
            self._ready()
            for _ in range(300):
                self.request("after a change", os.urandom(PROMPT))
        self.step("explain 100 decisions", lambda: self.router.explain(100))


def _batches(hashes: list[int]) -> Iterator[bytes]:
    stored = {
        "type": "BlockStored",
        "block_hashes": hashes,
        "parent_block_hash": None,
        "token_ids": list(range(BLOCK_TOKENS * len(hashes))),
        "block_size": BLOCK_TOKENS,
        "medium": "GPU",
    }
    yield msgspec.msgpack.encode([1.0, [stored], 0])
    yield msgspec.msgpack.encode(
        [1.0, [{"type": "BlockRemoved", "block_hashes": hashes, "medium": "GPU"}], 0]
    )


def main() -> None:
    """Print a Markdown table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    bench = Bench()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    for _ in range(DAY):
        bench.request("2k tokens", os.urandom(PROMPT))
    for _ in range(1000):
        bench.request("128k tokens", os.urandom(LONG))
    for blocks in (64, 1024):
        bench.events(blocks)
    bench.peers()
    bench.changes()
    entries = sum(len(state.cache) for state in bench.router.states())
    print(f"{entries} entries in the index; CPU microseconds per step\n")
    print("| step | times | mean | 99.9 % | longest |")
    print("|---|---|---|---|---|")
    for name, times in bench.times.items():
        ordered = sorted(times)
        late = ordered[min(len(ordered) - 1, int(0.999 * len(ordered)))]
        print(f"| {name} | {len(times)} | {sum(times) / len(times):.0f} | {late:.0f} | {ordered[-1]:.0f} |")


if __name__ == "__main__":
    main()
