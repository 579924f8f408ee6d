"""Each worker in turn."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from gateway.routing.assignment import RouteRequest
from gateway.routing.fingerprint import Fingerprint
from gateway.routing.policies.base import Choice
from gateway.routing.state import WorkerState


class RoundRobin:
    def __init__(self) -> None:
        self._turn = count()

    def choose(
        self, candidates: Sequence[WorkerState], request: RouteRequest, prompt: Fingerprint, now: float
    ) -> Choice:
        return Choice(candidates[next(self._turn) % len(candidates)], "")
