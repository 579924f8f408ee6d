"""What the router can say about a decision afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.routing.assignment import Outcome


@dataclass(frozen=True, slots=True)
class Explanation:
    """One decision and its outcome; `None` where it is not known yet."""

    at: float
    """Monotonic clock of the assignment, seconds."""
    policy: str
    worker: str
    reason: str
    candidates: int
    prompt_bytes: int
    cached_bytes: int
    """Bytes of the prompt that the router took to be in the worker's cache."""
    estimate_s: float
    ttft_s: float | None
    prompt_tokens: int
    cached_tokens: int
    """What the engine said, 0 where it said nothing."""
    outcome: Outcome | None
