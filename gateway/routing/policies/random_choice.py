"""Any worker."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from gateway.routing.assignment import RouteRequest
from gateway.routing.fingerprint import Fingerprint
from gateway.routing.policies.base import Choice
from gateway.routing.state import WorkerState


class RandomChoice:
    def __init__(self, random: Random) -> None:
        self._random = random

    def choose(
        self, candidates: Sequence[WorkerState], request: RouteRequest, prompt: Fingerprint, now: float
    ) -> Choice:
        return Choice(self._random.choice(candidates), "")
