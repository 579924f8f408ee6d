"""Predict the time to first token at every worker, and what the prefill costs those who come later."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.routing.assignment import RouteRequest
from gateway.routing.estimate import PrefillRates
from gateway.routing.fingerprint import Fingerprint
from gateway.routing.policies.base import Choice
from gateway.routing.state import WorkerState


class TimeToFirstToken:
    """Least `queue + prefill + foresight * prefill`.

    The first two are this request's own wait. The third is the wait that its prefill imposes on requests that
    are not here yet: a greedy router (`foresight` 0) recomputes on an idle worker what a busy one has cached,
    and pays with queues a minute later. Ties go to the worker that computed least so far.
    """

    def __init__(self, foresight: float, rates: PrefillRates) -> None:
        self._rates = rates
        self._foresight = 1.0 + foresight

    def choose(
        self, candidates: Sequence[WorkerState], request: RouteRequest, prompt: Fingerprint, now: float
    ) -> Choice:
        foresight, rates = self._foresight, self._rates
        total = prompt.total_bytes
        best = candidates[0]
        best_depth = 0
        best_cost = float("inf")
        best_load = 0
        for state in candidates:
            depth = state.cache.depth(prompt)
            cached = prompt.covered(depth) if depth else 0
            if state.cache.lower:
                cached = total - state.work(prompt, depth, True).new
            speed = state.speed.factor
            cost = foresight * speed * rates.seconds(total - cached, cached)
            if state.queue.waiting:
                cost += state.queue.seconds(rates, speed, now)
            if state.others_until > now:
                cost += state.others_until - now
            load = state.computed_bytes
            if cost < best_cost or (cost == best_cost and load < best_load):
                best, best_depth, best_cost, best_load = state, depth, cost, load
        return Choice(best, "", best_depth)
