"""A session stays with one worker: consistent hashing with bounded load."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from xxhash import xxh3_64_intdigest

from gateway.routing.assignment import RouteRequest
from gateway.routing.fingerprint import Fingerprint
from gateway.routing.policies.base import Choice
from gateway.routing.policies.load_guard import least_loaded
from gateway.routing.state import WorkerState


class SessionAffinity:
    """Rendezvous hashing: a worker that comes or goes moves only its own sessions.

    A worker that has more than `load_factor` times the mean load is passed over for the session's next one
    (Mirrokni, Thorup, Zadimoghaddam 2018). A request without a session goes to the least loaded worker.
    """

    def __init__(self, load_factor: float) -> None:
        self._load_factor = load_factor

    def choose(
        self, candidates: Sequence[WorkerState], request: RouteRequest, prompt: Fingerprint, now: float
    ) -> Choice:
        if not request.session:
            return Choice(least_loaded(candidates), "no-session")
        seed = xxh3_64_intdigest(request.session.encode())
        in_flight = sum(state.worker.in_flight for state in candidates)
        most = ceil(self._load_factor * (in_flight + 1) / len(candidates))
        ring = sorted(
            candidates, key=lambda state: xxh3_64_intdigest(state.worker.id.encode(), seed), reverse=True
        )
        for place, state in enumerate(ring):
            if state.worker.in_flight < most:
                return Choice(state, "home" if place == 0 else f"overflow={place}")
        return Choice(ring[0], "home")
