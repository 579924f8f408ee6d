"""The worker whose engine says that it holds the longest prefix, and that is not overloaded."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.routing.assignment import RouteRequest
from gateway.routing.fingerprint import Fingerprint
from gateway.routing.policies.base import Choice
from gateway.routing.policies.load_guard import deepest, not_overloaded
from gateway.routing.state import WorkerState


class DeepestConfirmedPrefix:
    """By the engines' KV events; a worker whose events are not live counts by its mirror instead.

    The reason says `events=3/4` where that happens.
    """

    def __init__(self, load_factor: float) -> None:
        self._load_factor = load_factor

    def choose(
        self, candidates: Sequence[WorkerState], request: RouteRequest, prompt: Fingerprint, now: float
    ) -> Choice:
        allowed = not_overloaded(candidates, self._load_factor)
        depths = [
            state.cache.depth(prompt) if state.confirmed is None else state.confirmed.depth(prompt)
            for state in allowed
        ]
        state, _ = deepest(allowed, depths, prompt)
        live = sum(s.confirmed is not None for s in candidates)
        return Choice(state, f"events={live}/{len(candidates)}")
