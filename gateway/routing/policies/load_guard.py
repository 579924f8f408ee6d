"""Which workers affinity may still choose: those whose queue is not far above the mean.

What counts is requests that wait for their first token. Requests in flight would hide a queue behind the many
that decode.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.routing.fingerprint import Fingerprint
from gateway.routing.state import WorkerState

SLACK_REQUESTS = 2
"""Loads this close to the mean are equal: of three requests in a fleet, two at one worker are no hot spot."""

WORTHWHILE = 0.1


def least_loaded(candidates: Sequence[WorkerState]) -> WorkerState:
    """Fewest requests before their first token, then in flight; of equals the one that computed least."""
    return min(candidates, key=lambda s: (len(s.queue), s.worker.in_flight, s.computed_bytes))


def not_overloaded(candidates: Sequence[WorkerState], load_factor: float) -> list[WorkerState]:
    """Those with at most `load_factor` times the mean queue plus SLACK_REQUESTS; never empty."""
    most = load_factor * sum(len(s.queue) for s in candidates) / len(candidates) + SLACK_REQUESTS
    return [s for s in candidates if len(s.queue) <= most]


def deepest(
    candidates: Sequence[WorkerState], depths: Sequence[int], prompt: Fingerprint
) -> tuple[WorkerState, int]:
    """The least loaded of those with the deepest prefix, and its depth.

    A prefix that is less than WORTHWHILE of the prompt longer than what every candidate has is no reason to
    prefer anybody: such is a system prompt that has just been evicted somewhere.
    """
    most = max(depths)
    if prompt.covered(most) - prompt.covered(min(depths)) < WORTHWHILE * prompt.total_bytes:
        state = least_loaded(candidates)
        return state, depths[candidates.index(state)]
    return least_loaded([s for s, depth in zip(candidates, depths, strict=True) if depth == most]), most
