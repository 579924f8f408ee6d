"""The worker with the longest cached prefix that is not overloaded."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.routing.assignment import RouteRequest
from gateway.routing.fingerprint import Fingerprint
from gateway.routing.policies.base import Choice
from gateway.routing.policies.load_guard import deepest, not_overloaded
from gateway.routing.state import WorkerState


class DeepestPrefix:
    """By the mirrors, that is by what was sent where.

    What every candidate has (a system prompt) attracts to none of them; see `load_guard.deepest`.
    """

    def __init__(self, load_factor: float) -> None:
        self._load_factor = load_factor

    def choose(
        self, candidates: Sequence[WorkerState], request: RouteRequest, prompt: Fingerprint, now: float
    ) -> Choice:
        allowed = not_overloaded(candidates, self._load_factor)
        depths = [state.cache.depth(prompt) for state in allowed]
        state, depth = deepest(allowed, depths, prompt)
        passed_over = len(candidates) - len(allowed)
        return Choice(state, f"overloaded={passed_over}" if passed_over else "", depth)
