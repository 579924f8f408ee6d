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
        self._foresight = 1.0 + foresight

    def choose(
        self, candidates: Sequence[WorkerState], request: RouteRequest, prompt: Fingerprint, now: float
    ) -> Choice:
        foresight, rates, slope = self._foresight, self._rates, self._decode.slope
        hashes, total = prompt.hashes, prompt.total_bytes
        whole = len(hashes)
        deepest, shallowest = (hashes[0], hashes[-1]) if whole else (None, None)
        reckoned = -1
        best, best_depth = candidates[0], 0
        best_cost, best_prefill = inf, 0.0
        for state in candidates:
            cache = state.cache
            newest = cache.resident.newest
            depth = whole if deepest in newest and shallowest in newest else cache.depth(prompt)
            if depth != reckoned:  # it is the same at most workers
                cached = prompt.covered(depth) if depth else 0
                computing = rates.seconds(total - cached, cached)
                reckoned = depth
            prefill = computing
            if depth < whole and (cache.lower or cache.shared) and cache.has_lower:
                prefill = rates.of(state.work(prompt, depth, cached, True))
            prefill *= state.speed.factor
            cost = foresight * prefill + slope * state.worker.in_flight
            queue = state.queue
            if queue.busy:
                cost += queue.seconds(rates, state.speed.factor, now)
                if queue.others_until > now:
                    cost += queue.others_until - now
            if cost > best_cost or (cost == best_cost and state.computed_bytes >= best.computed_bytes):
                continue
            best, best_depth, best_cost, best_prefill = state, depth, cost, prefill
        return Choice(best, "", best_depth, best_cost - (foresight - 1.0) * best_prefill)
