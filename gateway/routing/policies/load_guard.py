"""Which workers affinity may still choose: those whose queue is not far above the mean.

What counts is requests that wait for their first token. Requests in flight would hide a queue behind the many
that decode.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.routing.state import WorkerState

SLACK_REQUESTS = 2
"""Loads this close to the mean are equal: of three requests in a fleet, two at one worker are no hot spot."""


def least_loaded(candidates: Sequence[WorkerState]) -> WorkerState:
    """Fewest requests in flight; among equals the one that has computed least."""
    return min(candidates, key=lambda state: (state.worker.in_flight, state.computed_bytes))


def not_overloaded(candidates: Sequence[WorkerState], load_factor: float) -> list[WorkerState]:
    """Those with at most `load_factor` times the mean queue plus SLACK_REQUESTS; never empty."""
    most = load_factor * sum(len(s.queue) for s in candidates) / len(candidates) + SLACK_REQUESTS
    return [s for s in candidates if len(s.queue) <= most]
