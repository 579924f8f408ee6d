"""What the fake engine counts, and a way to wait for it without polling."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

REQUEST_LATENCY_BUCKETS = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
TTFT_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
ITL_BUCKETS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0),
)
"""Bucket bounds in seconds, those of `vllm/v1/metrics/buckets.py`."""

ABORTS_KEPT = 1000


class Phase(StrEnum):
    """Where in its life a request is."""

    QUEUED = "queued"
    PREFILL = "prefill"
    DECODE = "decode"
    DONE = "done"


class Histogram:
    """Counts of observations per bucket, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count `value`, `times` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


@dataclass(frozen=True, slots=True)
class Abort:
    """One request whose client left before it was answered."""

    request_id: str
    x_request_id: str | None
    model: str
    phase: Phase
    at: float
    """Unix time in seconds."""
    tokens: int
    """Tokens generated before."""


@dataclass(slots=True)
class Stats:
    """Counters since start. `running` and `waiting` are gauges kept by the scheduler."""

    requests_seen: int = 0
    inference_requests: int = 0
    connections_open: int = 0
    connections_seen: int = 0
    running: int = 0
    waiting: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generation_tokens: int = 0
    events_sent: int = 0
    faults_committed: int = 0
    finished: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("stop", "length", "abort", "error"), 0)
    )
    aborted: dict[Phase, int] = field(
        default_factory=lambda: dict.fromkeys((Phase.QUEUED, Phase.PREFILL, Phase.DECODE), 0)
    )
    aborts: deque[Abort] = field(default_factory=lambda: deque(maxlen=ABORTS_KEPT))
    ttft: Histogram = field(default_factory=lambda: Histogram(TTFT_BUCKETS))
    itl: Histogram = field(default_factory=lambda: Histogram(ITL_BUCKETS))
    e2e: Histogram = field(default_factory=lambda: Histogram(REQUEST_LATENCY_BUCKETS))
    queue_time: Histogram = field(default_factory=lambda: Histogram(REQUEST_LATENCY_BUCKETS))
    prefill_time: Histogram = field(default_factory=lambda: Histogram(REQUEST_LATENCY_BUCKETS))
    decode_time: Histogram = field(default_factory=lambda: Histogram(REQUEST_LATENCY_BUCKETS))
    _waiters: list[tuple[Callable[[Stats], bool], asyncio.Future[None]]] = field(default_factory=list)

    @property
    def aborted_total(self) -> int:
        """Aborts of all phases."""
        return sum(self.aborted.values())

    def changed(self) -> None:
        """Wake whoever waits for what is true now; called after each change somebody may wait for."""
        if not self._waiters:
            return
        pending = []
        for predicate, future in self._waiters:
            if future.done():
                continue
            if predicate(self):
                future.set_result(None)
            else:
                pending.append((predicate, future))
        self._waiters = pending

    async def until(self, predicate: Callable[[Stats], bool], within: float = 5.0) -> None:
        """Return as soon as `predicate(stats)` holds.

        Raises TimeoutError, with the figures as they stand, after `within` seconds.
        """
        if predicate(self):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((predicate, future))
        try:
            async with asyncio.timeout(within):
                await future
        except TimeoutError:
            raise TimeoutError(f"not so within {within} s; the engine reports {self.as_json()}") from None

    def as_json(self) -> dict[str, Any]:
        """The body of `GET /fake/stats`."""
        return {
            "running": self.running,
            "waiting": self.waiting,
            "requests_seen": self.requests_seen,
            "inference_requests": self.inference_requests,
            "connections_open": self.connections_open,
            "connections_seen": self.connections_seen,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "generation_tokens": self.generation_tokens,
            "events_sent": self.events_sent,
            "faults_committed": self.faults_committed,
            "finished": dict(self.finished),
            "aborted_total": self.aborted_total,
            "aborted": {phase.value: count for phase, count in self.aborted.items()},
            "aborts": [
                {
                    "request_id": abort.request_id,
                    "x_request_id": abort.x_request_id,
                    "model": abort.model,
                    "phase": abort.phase.value,
                    "at": abort.at,
                    "tokens": abort.tokens,
                }
                for abort in self.aborts
            ],
        }
