"""Predict the time to first token at every worker, and what the prefill costs those who come later."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

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
        self._weight = 1.0 + foresight
        self._for_others = foresight / self._weight

    def choose(
        self, candidates: Sequence[WorkerState], request: RouteRequest, prompt: Fingerprint, now: float
    ) -> Choice:
        weight, rates, slope = self._weight, self._rates, self._decode.slope
        hashes, total = prompt.hashes, prompt.total_bytes
        whole = len(hashes)
        deepest, shallowest = (hashes[0], hashes[-1]) if whole else (None, None)
        missed = weight * rates.seconds(total, 0)
        reckoned, found = 0, missed
        best, best_depth = candidates[0], 0
        best_cost, best_prefill = inf, 0.0
        for state in candidates:
            cache = state.cache
            depth, prefill = 0, missed
            for generation in cache.resident.generations:
                if shallowest in generation:
                    depth = whole if deepest in cache.resident.newest else cache.depth(prompt)
                    if depth != reckoned:  # it is the same at most workers that have anything
                        reckoned, cached = depth, prompt.covered(depth)
                        found = weight * rates.seconds(total - cached, cached)
                    prefill = found
                    break
            if cache.tiered and depth < whole:
                prefill = weight * rates.of(state.work(prompt, depth, prompt.covered(depth), True))
            prefill *= state.speed.factor
            cost = prefill + slope * state.worker.in_flight
            if state.queue.busy:
                cost += state.queue.seconds(rates, state.speed.factor, now)
            if cost > best_cost or (cost == best_cost and state.computed_bytes >= best.computed_bytes):
                continue
            best, best_depth, best_cost, best_prefill = state, depth, cost, prefill
        return Choice(best, "", best_depth, best_cost - best_prefill * self._for_others)
