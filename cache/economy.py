"""Whether loading pays: what prefill costs here against what each tier takes, both as measured.

A cache that is slower than computing is the field's standing complaint, so nothing is loaded on faith: a tier
that was never measured has to pay at a cautious guess. Pure arithmetic: durations come in, estimates go out.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import NamedTuple

from cache.cost import PrefillCost, TransferCost

_EXPLORE_EVERY = 20
"""One in so many refusals is tried out behind the request's back: what was slow once may be fast by now."""
_EXPLORE_CHUNKS = (8, 32, 128)
"""In turn: little at the first contact, then enough to tell a slow start from a slow tier."""


class Prior(NamedTuple):
    """What a tier is taken for before it was measured."""

    seconds: float
    bytes_per_second: float

    def at(self, nbytes: int) -> float:
        return self.seconds + nbytes / self.bytes_per_second


PRIORS = {
    "memory": Prior(0.0, 4e9),
    "packed": Prior(0.001, 0.4e9),
    "file": Prior(0.001, 0.8e9),
    "valkey": Prior(0.002, 0.2e9),
}
FAR = Prior(0.03, 0.02e9)
"""Any other tier, such as an object store: little is expected of it until it has shown more."""


class Segment(NamedTuple):
    """A run of chunks of a prefix that lie in one tier."""

    tier: str
    chunks: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Decision:
    """How much of a prefix to load, and what was expected of that."""

    chunks: int
    """Leading chunks to load; the rest is computed."""
    load_seconds: float
    """Expected for loading them."""
    saved_seconds: float
    """Expected gain over computing everything; 0 when nothing is loaded, or prefill was never measured."""
    reason: str
    """`pays`, `too slow`, `unmeasured` (prefill is) or `nothing`."""
    explore: int = 0
    """Chunks after those to be brought into memory in the background, to measure their tier."""


@dataclass(slots=True)
class EconomyCounters:
    """Decisions, and how wrong the estimates were."""

    loads: int = 0
    refusals: int = 0
    explored: int = 0
    judged: int = 0
    """Loads whose duration was reported."""
    expected_seconds: float = 0.0
    """Sum over judged loads."""
    actual_seconds: float = 0.0
    error_seconds: float = 0.0
    """Sum of absolute differences."""
    regretted: int = 0
    """Judged loads that took longer than computing was expected to take."""


class Economy:
    """Measured costs and the choice they lead to. Thread-safe; times in seconds."""

    def __init__(self) -> None:
        self.counters = EconomyCounters()
        self._lock = threading.Lock()
        self._prefill = PrefillCost()
        self._loads: dict[str, TransferCost] = {}
        self._since_explored = _EXPLORE_EVERY - 1

    def observe_prefill(self, tokens: int, context: int, seconds: float) -> None:
        """A step computed `tokens` after `context` earlier ones."""
        if tokens > 0 and seconds > 0:
            with self._lock:
                self._prefill.observe(tokens, context, seconds)

    def observe_load(self, tier: str, chunks: int, nbytes: int, seconds: float) -> None:
        """A batch came from `tier` into the arena, verified and decoded."""
        with self._lock:
            self._loads.setdefault(tier, TransferCost()).observe(nbytes, seconds)

    def prefill_seconds(self, tokens: int, context: int) -> float | None:
        """Expected time to compute; None before the first measurement."""
        if tokens <= 0:
            return 0.0
        with self._lock:
            return self._prefill.at(tokens, context)

    def load_seconds(self, tier: str, nbytes: int) -> float:
        """Expected time to bring bytes into the arena, or to the engine for `memory`."""
        with self._lock:
            cost = self._loads.get(tier)
            measured = None if cost is None else cost.at(nbytes)
        return PRIORS.get(tier, FAR).at(nbytes) if measured is None else measured

    def choose(self, tokens: int, segments: Sequence[Segment], chunk_tokens: int) -> Decision:
        """How many chunks of a prompt of `tokens` to load, given where its prefix lies.

        Considers every end of a segment: chunks in memory may pay while those on a slow tier do not.
        """
        total = sum(segment.chunks for segment in segments)
        if not total:
            return Decision(0, 0.0, 0.0, "nothing")
        costs = [self.load_seconds(segment.tier, segment.nbytes) for segment in segments]
        everything = self.prefill_seconds(tokens, 0)
        if everything is None:
            # Far tiers would keep it from ever being measured: every prompt that they have is not computed.
            near = list(takewhile(lambda segment: segment.tier in PRIORS, segments))
            chunks = sum(segment.chunks for segment in near)
            return self._count(Decision(chunks, sum(costs[: len(near)]), 0.0, "unmeasured"), total)
        best = Decision(0, 0.0, 0.0, "too slow")
        chunks, loading = 0, 0.0
        for segment, cost in zip(segments, costs, strict=True):
            chunks += segment.chunks
            loading += cost
            context = chunks * chunk_tokens
            computing = self.prefill_seconds(tokens - context, context) or 0.0
            saved = everything - loading - computing
            if saved > best.saved_seconds:
                best = Decision(chunks, loading, saved, "pays")
        return self._count(best, total)

    def judge(self, decision: Decision, seconds: float) -> None:
        """The load that was decided on took `seconds`."""
        with self._lock:
            counters = self.counters
            counters.judged += 1
            counters.expected_seconds += decision.load_seconds
            counters.actual_seconds += seconds
            counters.error_seconds += abs(seconds - decision.load_seconds)
            if decision.reason == "pays" and seconds > decision.load_seconds + decision.saved_seconds:
                counters.regretted += 1

    def _count(self, decision: Decision, total: int) -> Decision:
        """Count what was decided on, and see whether what was refused should be tried out."""
        with self._lock:
            self.counters.loads += decision.chunks > 0
            if decision.chunks == total:
                return decision
            self.counters.refusals += not decision.chunks
            self._since_explored += 1
            if self._since_explored < _EXPLORE_EVERY:
                return decision
            self._since_explored = 0
            some = _EXPLORE_CHUNKS[self.counters.explored % len(_EXPLORE_CHUNKS)]
            self.counters.explored += 1
            return replace(decision, explore=min(some, total - decision.chunks))
