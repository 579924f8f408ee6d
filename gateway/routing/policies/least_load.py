"""The worker with the fewest requests; equals take turns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from gateway.routing.assignment import RouteRequest
from gateway.routing.fingerprint import Fingerprint
from gateway.routing.policies.base import Choice
from gateway.routing.state import WorkerState


class LeastLoad:
    def __init__(self) -> None:
        self._turn = count()

    def choose(
        self, candidates: Sequence[WorkerState], request: RouteRequest, prompt: Fingerprint, now: float
    ) -> Choice:
        turn = next(self._turn) % len(candidates)
        best = candidates[turn]
        for state in (*candidates[turn + 1 :], *candidates[:turn]):
            if state.worker.in_flight < best.worker.in_flight:
                best = state
        return Choice(best, f"load={best.worker.in_flight}")
