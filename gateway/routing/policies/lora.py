"""Where the adapter is loaded, then where a slot is free, then the least loaded worker."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.routing.assignment import RouteRequest
from gateway.routing.fingerprint import Fingerprint
from gateway.routing.policies.base import Choice
from gateway.routing.policies.load_guard import deepest, least_loaded, not_overloaded
from gateway.routing.state import WorkerState


class AdapterAffinity:
    """An engine keeps a few adapters on its device; loading another one evicts one and stalls the batch.

    `slots` is the engines' `max_loras`. The served name stands for the adapter: what the router sent to a
    worker last is what is loaded there. Within the best class the deepest prefix wins, then the load.
    """

    def __init__(self, slots: int, load_factor: float) -> None:
        self._slots = slots
        self._load_factor = load_factor

    def choose(
        self, candidates: Sequence[WorkerState], request: RouteRequest, prompt: Fingerprint, now: float
    ) -> Choice:
        allowed = not_overloaded(candidates, self._load_factor)
        loaded = [s for s in allowed if s.recent_models.holds(request.model, self._slots)]
        if loaded:
            depths = [state.cache.depth(prompt) for state in loaded]
            state, depth = deepest(loaded, depths, prompt)
            return Choice(state, "adapter=loaded", depth)
        free = [s for s in allowed if len(s.recent_models) < self._slots]
        if free:
            return Choice(least_loaded(free), "adapter=free-slot")
        return Choice(least_loaded(allowed), "adapter=swap")
