"""The router: from a request to one worker, and from what happened there to better estimates.

Everything here is synchronous and touches nothing outside the process. A request costs microseconds:
hash its bytes, ask the policy, count it.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from random import Random
from typing import Final, Literal

from gateway.routing.account import RoutingAccount
from gateway.routing.assignment import NoWorkerError, RouteRequest
from gateway.routing.estimate import DecodeRates, LoadPrices, ModelRates, PrefillRates, TextDensity
from gateway.routing.explain import Explanation
from gateway.routing.fingerprint import fingerprint
from gateway.routing.fleet import Fleet, Worker
from gateway.routing.index import ENTRY_BYTES, CacheMirror
from gateway.routing.peers import PeerExchange
from gateway.routing.policies.registry import make_policy
from gateway.routing.routed import Lane, RoutedRequest
from gateway.routing.settings import RoutingSettings
from gateway.routing.state import WorkerState
from gateway.routing.tiers import SharedStores

SHARED_PART: Final = 8
"""Tiers that several workers read get one in so many entries of the index, all together."""


class Router:
    """Implements `gateway.routing.assignment.Router` for one gateway process."""

    def __init__(self, fleet: Fleet, settings: RoutingSettings | None = None) -> None:
        self.settings = settings = settings or RoutingSettings()
        self.fleet = fleet
        self.account = RoutingAccount()
        self.peers: PeerExchange | None = None
        """Set where other gateways serve the same fleet."""
        self._random = Random(settings.seed)
        self._lanes: dict[tuple[str | None, str], Lane] = {}
        self._rates: dict[str, ModelRates] = {}
        self._prior = 1.0 / (settings.prefill_tokens_per_s * settings.bytes_per_token)
        self.density = TextDensity(settings.bytes_per_token, self._resize)
        """Told of the tokens that engines count; cache sizes, which are in bytes, follow it."""
        self._states: dict[str, WorkerState] = {}
        self._left: list[CacheMirror] = []
        self._shared = SharedStores(settings.file_tier)
        self._prices = LoadPrices()
        self._keys = count()
        self._recent: deque[RoutedRequest] = deque(maxlen=settings.explain_records)
        for worker in fleet:
            self._join(worker)
        fleet.subscribe(self._on_fleet_change)

    def assign(
        self, request: RouteRequest, now: float, exclude: frozenset[str] = frozenset()
    ) -> RoutedRequest:
        """See `gateway.routing.assignment.Router.assign`."""
        model = request.model
        lane = self._lanes.get((request.policy, model)) or self._open_lane(request.policy, model, exclude)
        candidates = lane.candidates
        if candidates is None:
            candidates = lane.candidates = self._serving(model)
        if exclude:
            candidates = [state for state in candidates if state.worker.id not in exclude]
        if self._left and not self._left[-1].shed():
            self._left.pop()
        if not candidates:
            raise self._nobody(model, exclude)
        prompt = fingerprint(model, request.head, request.body)
        choice = lane.policy.choose(candidates, request, prompt, now)
        state, depth = choice.state, choice.depth
        cache = state.cache
        if depth < 0:
            depth = cache.depth(prompt)
        cached = prompt.covered(depth) if depth else 0
        work = state.work(prompt, depth, cached, request.stream)
        estimate = choice.estimate
        if estimate < 0.0:
            estimate = lane.estimate(state, work, now)
        worker = state.worker
        routed = RoutedRequest(
            self,
            lane,
            state,
            worker,
            prompt,
            depth,
            prompt.total_bytes,
            cached,
            cached if depth == len(prompt.hashes) else prompt.covered(cache.possible_depth(prompt, depth)),
            work,
            choice.why,
            len(candidates),
            now,
            estimate,
        )
        state.queue.add(routed, work, now)
        if self.peers is not None:
            routed.key = next(self._keys)
            self.peers.routed(routed.key, worker.id, work, cached, prompt)
        cache.touch(prompt, depth)
        state.computed_bytes += work.new
        if state.recent_models.latest != model:
            state.recent_models.touch(model)
        worker.in_flight += 1
        if worker.in_flight >= worker.limit:
            worker.changed()
        self._recent.append(routed)
        return routed

    def explain(self, limit: int = 100) -> list[Explanation]:
        """The latest decisions, newest first: who, why, the estimate and what happened."""
        records = list(self._recent)[-limit:] if limit > 0 else []
        return [record.explanation() for record in reversed(records)]

    def know_cache_size(self, worker_id: str, tokens: int) -> None:
        """The worker's prefix cache holds `tokens` (from its own metrics); unknown ids are ignored."""
        if (state := self._states.get(worker_id)) is not None:
            state.cache.know_capacity(int(tokens * self.density.applied))

    def observe_load(self, worker_id: str, waiting: int, now: float) -> None:
        """A worker says that `waiting` requests have no first token yet (vLLM: waiting and in prefill).

        What exceeds this process's own is taken for other gateways' and counts as queue, until it would have
        been worked off. Unknown ids are ignored.
        """
        if (state := self._states.get(worker_id)) is not None:
            state.observe_waiting(waiting, now)

    def state(self, worker_id: str) -> WorkerState | None:
        """Of one member."""
        return self._states.get(worker_id)

    def states(self) -> list[WorkerState]:
        """Per member: cache mirror, queue and rates, for metrics and the admin API. Read only."""
        return list(self._states.values())

    def _open_lane(self, asked: str | None, model: str, exclude: frozenset[str]) -> Lane:
        """Raises UnknownPolicyError, NoWorkerError. Only for served models, so that there are few."""
        if not self._serving(model):
            raise self._nobody(model, exclude)
        settings = self.settings
        name = asked or settings.model_policies.get(model) or settings.policy
        lane = self._lanes.get((name, model))
        if lane is None:
            fresh = ModelRates(PrefillRates(self._prior), DecodeRates())
            rates = self._rates.setdefault(model, fresh)
            policy = make_policy(name, settings, self._random, rates)
            lane = self._lanes[name, model] = Lane(name, policy, rates, self.account.of(name))
        self._lanes[asked, model] = lane
        return lane

    def _serving(self, model: str) -> list[WorkerState]:
        """Those that serve it and accept requests now, in the order of the fleet."""
        return [
            state
            for state in self._states.values()
            if model in state.worker.models and state.worker.accepting
        ]

    def _forget_candidates(self) -> None:
        """A worker's state is another: see `Worker.watchers`."""
        for lane in self._lanes.values():
            lane.candidates = None

    def _resize(self, factor: float) -> None:
        for state in self._states.values():
            state.cache.rescale(factor)

    def _nobody(self, model: str, exclude: frozenset[str]) -> NoWorkerError:
        workers = self.fleet.models().get(model)
        if not workers:
            return NoWorkerError(f"no worker serves the model {model!r}", unknown_model=True)
        states = ", ".join(
            f"{w.id} {'failed for this request' if w.id in exclude else w.message or w.health}"
            for w in workers
        )
        return NoWorkerError(f"no worker can take a request for {model!r} now: {states}", unknown_model=False)

    def _on_fleet_change(self, event: Literal["joined", "left", "restarted"], worker: Worker) -> None:
        if event == "joined":
            self._join(worker)
        elif event == "left":
            cache = self._states.pop(worker.id).cache
            cache.clear()
            self._left.append(cache)
            worker.watchers.remove(self._forget_candidates)
            self._forget_candidates()
            self._share_index()
        else:
            self._states[worker.id].forget_cache()
        if self.peers is not None:
            self.peers.fleet_changed()

    def _join(self, worker: Worker) -> None:
        settings = self.settings
        # Only an engine that tells what it stores is taken to have tiers to load from.
        shared = self._shared.read_by(worker.host) if worker.kv_events is not None else ()
        cache = CacheMirror(int(settings.cache_tokens * self.density.applied), 1, shared)
        self._states[worker.id] = WorkerState(worker, cache, self._prices)
        worker.watchers.append(self._forget_candidates)
        self._forget_candidates()
        self._share_index()

    def _share_index(self) -> None:
        self._shared.keep_hosts({state.worker.host for state in self._states.values()})
        entries = self.settings.index_bytes // ENTRY_BYTES
        for_shared = entries // SHARED_PART
        for state in self._states.values():
            state.cache.max_entries = max(1, (entries - for_shared) // len(self._states))
        for shared in self._shared:
            shared.max_entries = max(1, for_shared // len(self._shared))
