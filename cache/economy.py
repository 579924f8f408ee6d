"""Whether loading pays: what prefill costs here against what each tier takes, both as measured.

A cache that is slower than computing is the field's standing complaint, so nothing is loaded on faith once
there are figures. Pure arithmetic: durations come in, estimates go out.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

_DECAY = 0.95
"""Weight that old measurements keep when a new one comes."""
_EXPLORE_EVERY = 20
"""One in so many refusals is loaded anyway: a tier that was slow once may be fast by now."""


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
    """Expected gain over computing everything; 0 when nothing is loaded, or nothing was measured yet."""
    reason: str
    """`pays`, `too slow`, `explore`, `unmeasured` or `nothing`."""


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


class _Line:
    """A line through (x, seconds), fitted to recent measurements; neither part of it negative."""

    __slots__ = ("_n", "_x", "_xx", "_xy", "_y")

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0

    def observe(self, x: float, y: float) -> None:
        self._n = self._n * _DECAY + 1
        self._x = self._x * _DECAY + x
        self._y = self._y * _DECAY + y
        self._xx = self._xx * _DECAY + x * x
        self._xy = self._xy * _DECAY + x * y

    def at(self, x: float) -> float | None:
        """Expected seconds, None before the first measurement."""
        if not self._n:
            return None
        spread = self._n * self._xx - self._x * self._x
        slope = (
            (self._n * self._xy - self._x * self._y) / spread if spread > 1e-9 * self._xx * self._n else 0.0
        )
        through_origin = self._xy / self._xx if self._xx else 0.0
        slope = min(max(slope, 0.0), through_origin)
        base = max(0.0, (self._y - slope * self._x) / self._n)
        return base + slope * x


class Economy:
    """Measured costs and the choice they lead to. Thread-safe; times in seconds."""

    def __init__(self) -> None:
        self.counters = EconomyCounters()
        self._lock = threading.Lock()
        self._prefill: dict[int, tuple[float, float]] = {}
        """By the power of two of tokens seen at the end: decayed sums of tokens and of seconds."""
        self._loads: dict[str, _Line] = {}
        self._since_explored = 0

    def observe_prefill(self, tokens: int, context: int, seconds: float) -> None:
        """`tokens` were computed after `context` earlier ones."""
        if tokens <= 0 or seconds <= 0:
            return
        bucket = (context + tokens).bit_length()
        with self._lock:
            old_tokens, old_seconds = self._prefill.get(bucket, (0.0, 0.0))
            self._prefill[bucket] = (old_tokens * _DECAY + tokens, old_seconds * _DECAY + seconds)

    def observe_load(self, tier: str, chunks: int, nbytes: int, seconds: float) -> None:
        """A batch came from `tier` into the arena, verified and decoded."""
        with self._lock:
            self._loads.setdefault(tier, _Line()).observe(nbytes, seconds)

    def prefill_seconds(self, tokens: int, context: int) -> float | None:
        """Expected time to compute; None before the first measurement."""
        if tokens <= 0:
            return 0.0
        with self._lock:
            if not self._prefill:
                return None
            wanted = (context + tokens).bit_length()
            nearest = min(self._prefill, key=lambda bucket: abs(bucket - wanted))
            done, seconds = self._prefill[nearest]
            return tokens * seconds / done

    def load_seconds(self, tier: str, nbytes: int) -> float | None:
        """Expected time to bring bytes into the arena, or to the engine for `memory`; None before any
        measurement."""
        with self._lock:
            line = self._loads.get(tier)
            return None if line is None else line.at(nbytes)

    def choose(self, tokens: int, segments: Sequence[Segment], chunk_tokens: int) -> Decision:
        """How many chunks of a prompt of `tokens` to load, given where its prefix lies.

        Considers every end of a segment: chunks in memory may pay while those on a slow tier do not. A tier
        without measurements is taken at its word, so that it gets some.
        """
        total = sum(segment.chunks for segment in segments)
        if not total:
            return Decision(0, 0.0, 0.0, "nothing")
        everything = self.prefill_seconds(tokens, 0)
        if everything is None:
            return self._load(Decision(total, 0.0, 0.0, "unmeasured"))
        best = Decision(0, 0.0, 0.0, "too slow")
        chunks, loading = 0, 0.0
        for segment in segments:
            cost = self.load_seconds(segment.tier, segment.nbytes)
            chunks += segment.chunks
            loading += cost or 0.0
            context = chunks * chunk_tokens
            computing = self.prefill_seconds(tokens - context, context) or 0.0
            saved = everything - loading - computing
            if saved > best.saved_seconds or (cost is None and best.chunks == chunks - segment.chunks):
                best = Decision(
                    chunks, loading, max(0.0, saved), "pays" if cost is not None else "unmeasured"
                )
        if best.chunks:
            return self._load(best)
        return self._refuse(total, loading)

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

    def _load(self, decision: Decision) -> Decision:
        with self._lock:
            self.counters.loads += 1
        return decision

    def _refuse(self, chunks: int, loading: float) -> Decision:
        with self._lock:
            self._since_explored += 1
            if self._since_explored < _EXPLORE_EVERY:
                self.counters.refusals += 1
                return Decision(0, 0.0, 0.0, "too slow")
            self._since_explored = 0
            self.counters.explored += 1
            return Decision(chunks, loading, 0.0, "explore")
