"""Two workers at random, the one with fewer requests."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from gateway.routing.assignment import RouteRequest
from gateway.routing.fingerprint import Fingerprint
from gateway.routing.policies.base import Choice
from gateway.routing.state import WorkerState


class PowerOfTwo:
    """Mitzenmacher's two choices: most of the gain of full knowledge, without herding on the emptiest."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def choose(
        self, candidates: Sequence[WorkerState], request: RouteRequest, prompt: Fingerprint, now: float
    ) -> Choice:
        if len(candidates) == 1:
            return Choice(candidates[0], f"load={candidates[0].worker.in_flight}")
        one, other = self._random.sample(candidates, 2)
        if other.worker.in_flight < one.worker.in_flight:
            one, other = other, one
        return Choice(one, f"load={one.worker.in_flight}<={other.worker.in_flight}")
