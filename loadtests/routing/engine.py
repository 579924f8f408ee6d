"""A simulated engine: a finite LRU prefix cache, one prefill at a time in order of arrival, decoding beside.

These are the yardstick's assumptions. They leave out that decoding slows prefill, and that a full batch makes
requests wait; what they keep is what routing decides on: who has the prefix, and who has a queue.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from random import Random
from typing import Literal

from loadtests.routing.workload import BLOCK_TOKENS, SimRequest

Eviction = Literal["head_first", "tail_first"]


@dataclass(frozen=True, slots=True)
class EngineSettings:
    cache_blocks: int = 4000
    prefill_tokens_per_s: float = 12_000.0
    itl_s: float = 0.02
    eviction: Eviction = "head_first"
    """Which block of one prompt goes first. The yardstick's engine drops the head, vLLM the tail."""
    noise: float = 0.0
    """Sigma of a lognormal factor of mean 1 on every prefill; nobody knows it beforehand."""


class BlockCache:
    """LRU over block ids."""

    def __init__(self, settings: EngineSettings) -> None:
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self._capacity = settings.cache_blocks
        self._tail_first = settings.eviction == "tail_first"

    def match(self, blocks: list[int]) -> int:
        """Length of the cached prefix in blocks."""
        known = self._blocks
        if blocks and blocks[0] not in known:
            return 0
        for count, block in enumerate(blocks):
            if block not in known:
                return count
        return len(blocks)

    def touch(self, blocks: list[int]) -> tuple[list[int], list[int]]:
        """All of `blocks` become the newest. Returns what was stored and what was evicted."""
        known = self._blocks
        stored = [b for b in blocks if b not in known]
        for block in reversed(blocks) if self._tail_first else blocks:
            known[block] = None
            known.move_to_end(block)
        evicted: list[int] = []
        while len(known) > self._capacity:
            evicted.append(known.popitem(last=False)[0])
        return stored, evicted

    def clear(self) -> None:
        self._blocks.clear()


@dataclass(slots=True, eq=False)
class Flight:
    """One attempt of one request at one engine."""

    index: int
    request: SimRequest
    arrived: float
    engine: int = -1
    hit: int = 0
    ended: bool = False


class SimEngine:
    """Passive: the loop in `simulate` says when. `speed` below 1 is a slow machine."""

    def __init__(self, settings: EngineSettings, speed: float = 1.0) -> None:
        self.settings = settings
        self.rate = settings.prefill_tokens_per_s * speed
        self.cache = BlockCache(settings)
        self.waiting: deque[Flight] = deque()
        self.serving: Flight | None = None
        self.busy_until = 0.0
        self.decoding: set[Flight] = set()
        self.up = True
        self._random = Random(0)
        self.work = 0.0
        self.hit = self.total = 0

    def begin(self, now: float) -> Flight:
        """Start the next waiting prefill at a free engine; `busy_until` then says when it ends."""
        flight = self.serving = self.waiting.popleft()
        blocks = flight.request.blocks
        flight.hit = self.cache.match(blocks)
        work = self.seconds(len(blocks), flight.hit)
        if sigma := self.settings.noise:
            work *= self._random.lognormvariate(-sigma * sigma / 2, sigma)
        self.hit += flight.hit
        self.total += len(blocks)
        self.work += work
        self.busy_until = now + work
        return flight

    def seconds(self, blocks: int, cached: int) -> float:
        """Prefill time; the last block is computed even if all are cached."""
        return max(1, blocks - cached) * BLOCK_TOKENS / self.rate
