"""Predict the time to first token at every worker, and what the prefill costs those who come later."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.routing.assignment import RouteRequest
from gateway.routing.estimate import ModelRates
from gateway.routing.fingerprint import Fingerprint
from gateway.routing.policies.base import Choice
from gateway.routing.state import WorkerState


class TimeToFirstToken:
    """Least `queue + decoding + prefill + foresight * prefill`.

    The first three are this request's own wait: the prefills ahead of it, what those who decode add to a
    step, and its own tokens that are not cached. The last is the wait that its prefill imposes on requests
    that are not here yet: a greedy router (`foresight` 0) recomputes on an idle worker what a busy one has
    cached, and pays with queues a minute later. Ties go to the worker that computed least so far.
    """

    def __init__(self, foresight: float, rates: ModelRates) -> None:
        self._rates, self._decode = rates
        self._foresight = 1.0 + foresight

    def choose(
        self, candidates: Sequence[WorkerState], request: RouteRequest, prompt: Fingerprint, now: float
    ) -> Choice:
        foresight, rates, slope = self._foresight, self._rates, self._decode.slope
        overhead, by_byte, by_area = rates.overhead, rates.by_byte, rates.by_area
        total = prompt.total_bytes
        best = candidates[0]
        best_depth = 0
        best_cost = float("inf")
        best_prefill = 0.0
        best_load = 0
        for state in candidates:
            cache = state.cache
            depth = cache.depth(prompt)
            cached = prompt.covered(depth) if depth else 0
            if (cache.lower or cache.shared) and cache.has_lower:
                cached = total - state.work(prompt, depth, True).new
            new = total - cached
            speed = state.speed.factor
            prefill = speed * (overhead + by_byte * new + by_area * (new * (cached + total)))
            cost = foresight * prefill + slope * state.worker.in_flight
            if state.queue.waiting:
                cost += state.queue.seconds(rates, speed, now)
            if state.others_until > now:
                cost += state.others_until - now
            load = state.computed_bytes
            if cost < best_cost or (cost == best_cost and load < best_load):
                best, best_depth, best_cost, best_load = state, depth, cost, load
                best_prefill = prefill
        return Choice(best, "", best_depth, best_cost - (foresight - 1.0) * best_prefill)
