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
from gateway.routing.assignment import NoWorkerError, Outcome, RouteRequest
from gateway.routing.estimate import WARM_UP, PrefillRates, TextDensity, Work
from gateway.routing.explain import Explanation
from gateway.routing.fingerprint import Fingerprint, fingerprint
from gateway.routing.fleet import Fleet, Worker
from gateway.routing.index import ENTRY_BYTES, CacheMirror
from gateway.routing.peers import PeerExchange
from gateway.routing.policies.base import Policy
from gateway.routing.policies.registry import make_policy
from gateway.routing.settings import RoutingSettings
from gateway.routing.state import EndedRequest, WorkerState

DENSITY_STEP: Final = 0.02
"""Relative change of the bytes per token that is worth resizing the mirrors for."""
SEPARATE: Final = 1.5
"""A service time tells a hit from a miss only if the two would differ by this factor."""


class Router:
    """Implements `gateway.routing.assignment.Router` for one gateway process."""

    def __init__(self, fleet: Fleet, settings: RoutingSettings | None = None) -> None:
        self.settings = settings = settings or RoutingSettings()
        self.fleet = fleet
        self.account = RoutingAccount()
        self.peers: PeerExchange | None = None
        """Set where other gateways serve the same fleet."""
        self._random = Random(settings.seed)
        self._policies: dict[tuple[str, str], Policy] = {}
        self._rates: dict[str, PrefillRates] = {}
        self._prior = 1.0 / (settings.prefill_tokens_per_s * settings.bytes_per_token)
        self._density = TextDensity(settings.bytes_per_token)
        self._applied_density = settings.bytes_per_token
        self._states: dict[str, WorkerState] = {}
        self._keys = count()
        self._recent: deque[RoutedRequest] = deque(maxlen=settings.explain_records)
        for name in (settings.policy, *settings.model_policies.values()):
            make_policy(name, settings, self._random, PrefillRates(1.0))
        for worker in fleet:
            self._join(worker)
        fleet.subscribe(self._on_fleet_change)

    def assign(
        self, request: RouteRequest, now: float, exclude: frozenset[str] = frozenset()
    ) -> RoutedRequest:
        """See `gateway.routing.assignment.Router.assign`."""
        states = self._states
        model = request.model
        serving = self.fleet.serving(model)
        if exclude:
            candidates = [states[w.id] for w in serving if w.id not in exclude]
        else:
            candidates = [states[w.id] for w in serving]
        if not candidates:
            raise self._nobody(model, exclude)
        settings = self.settings
        name = request.policy or settings.model_policies.get(model) or settings.policy
        rates = self._rates.get(model)
        if rates is None:
            rates = self._rates[model] = PrefillRates(self._prior)
        policy = self._policies.get((name, model))
        if policy is None:
            policy = self._policies[name, model] = make_policy(name, settings, self._random, rates)
        prompt = fingerprint(model, request.head, request.body)
        state, why, depth = policy.choose(candidates, request, prompt, now)
        cache = state.cache
        if depth < 0:
            depth = cache.depth(prompt)
        cached = prompt.covered(depth)
        possible = prompt.covered(cache.possible_depth(prompt)) if cache.learning else cached
        work = state.work(prompt, depth, request.stream)
        waiting = state.queue.seconds(rates, state.speed.factor, now)
        routed = RoutedRequest(
            self,
            next(self._keys),
            state,
            name,
            why,
            prompt,
            depth,
            cached,
            possible,
            work,
            waiting,
            rates,
            len(candidates),
            now,
        )
        state.queue.add(routed.key, work, now)
        if self.peers is not None:
            self.peers.routed(routed.key, state.worker.id, work, cached, prompt)
        cache.touch(prompt, depth)
        state.computed_bytes += work.new
        if state.recent_models.latest != model:
            state.recent_models.touch(model)
        state.worker.in_flight += 1
        self._recent.append(routed)
        return routed

    def explain(self, limit: int = 100) -> list[Explanation]:
        """The latest decisions, newest first: who, why, the estimate and what happened."""
        records = list(self._recent)[-limit:] if limit > 0 else []
        return [record.explanation() for record in reversed(records)]

    def know_cache_size(self, worker_id: str, tokens: int) -> None:
        """The worker's prefix cache holds `tokens` (from its own metrics); unknown ids are ignored."""
        if (state := self._states.get(worker_id)) is not None:
            state.cache.know_capacity(int(tokens * self._applied_density))

    def observe_load(self, worker_id: str, waiting: int, now: float) -> None:
        """A worker says that `waiting` requests have no first token yet (vLLM: waiting and in prefill).

        What exceeds this process's own is taken for other gateways' and counts as queue, until it would have
        been worked off. Unknown ids are ignored.
        """
        if (state := self._states.get(worker_id)) is not None:
            state.observe_waiting(waiting, now)

    def learn_density(self, prompt_bytes: int, prompt_tokens: int) -> None:
        """An engine counted the tokens of a prompt; cache sizes, which are in bytes, follow."""
        self._density.observe(prompt_bytes, prompt_tokens)
        change = self._density.bytes_per_token / self._applied_density
        if abs(change - 1.0) > DENSITY_STEP:
            self._applied_density = self._density.bytes_per_token
            for state in self._states.values():
                state.cache.rescale(change)

    def state(self, worker_id: str) -> WorkerState | None:
        """Of one member."""
        return self._states.get(worker_id)

    def states(self) -> list[WorkerState]:
        """Per member: cache mirror, queue and rates, for metrics and the admin API. Read only."""
        return list(self._states.values())

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
            self._states.pop(worker.id, None)
            self._share_index()
        else:
            self._states[worker.id].forget_cache()

    def _join(self, worker: Worker) -> None:
        settings = self.settings
        cache = CacheMirror(int(settings.cache_tokens * self._applied_density), 1)
        self._states[worker.id] = WorkerState(worker, cache)
        self._share_index()

    def _share_index(self) -> None:
        share = self.settings.index_bytes // ENTRY_BYTES // max(1, len(self._states))
        for state in self._states.values():
            state.cache.max_entries = max(1, share)


class RoutedRequest:
    """One request at one worker. `finish` must be called once; a second call is ignored."""

    __slots__ = (
        "_cached", "_candidates", "_depth", "_now", "_possible", "_prompt", "_rates", "_router", "_state",
        "_total", "_why", "_work", "cached_tokens", "estimate", "key", "outcome", "policy", "prompt_tokens",
        "reason", "ttft", "worker",
    )  # fmt: skip

    def __init__(
        self,
        router: Router,
        key: int,
        state: WorkerState,
        policy: str,
        why: str,
        prompt: Fingerprint,
        depth: int,
        cached: int,
        possible: int,
        work: Work,
        waiting: float,
        rates: PrefillRates,
        candidates: int,
        now: float,
    ) -> None:
        self._router = router
        self.key = key
        self._state = state
        self.worker = state.worker
        self.policy = policy
        self._why = why
        self._prompt: Fingerprint | None = prompt
        self._depth = depth
        self._total = prompt.total_bytes
        self._cached = cached
        self._possible = possible
        self._work = work
        self._candidates = candidates
        self._now = now
        self._rates = rates
        self.estimate = waiting + state.speed.factor * rates.of(work)
        """Predicted seconds to the first token."""
        self.ttft: float | None = None
        self.outcome: Outcome | None = None
        self.prompt_tokens = self.cached_tokens = 0
        self.reason = (
            f"{policy}:hit={cached}/{prompt.total_bytes}B,est={self.estimate * 1e3:.0f}ms"
            f"{',' if why else ''}{why}"
        )

    def first_byte(self, now: float) -> None:
        """See `gateway.routing.assignment.Assignment.first_byte`. Later calls are ignored."""
        if self.ttft is not None or self.outcome is not None:
            return
        self.ttft = now - self._now
        state = self._state
        work = self._work
        ended = state.queue.done(self.key, now)
        if (peers := self._router.peers) is not None:
            peers.prefilled(self.key, answered=True)
        if not work.end_seen:
            return
        if ended is not None and self._was_as_predicted(ended[1]):
            state.learn(self._rates, work, ended[1])
        self._router.account.predicted(self.policy, self.estimate, self.ttft)

    def _was_as_predicted(self, served: float) -> bool:
        """Was as much of the prompt cached as the mirror said, judging by the time that the prefill took?

        Without token counts from the engine this is also what the mirror learns from.
        """
        rates, state = self._rates, self._state
        cached, possible = self._cached, self._possible
        if rates.observations < WARM_UP or cached == possible == 0 or self._work.loaded:
            return True
        total = self._total
        factor = state.speed.factor
        expected = factor * rates.of(self._work)
        actual = cached
        missed = factor * rates.seconds(total, 0)
        if possible > cached:
            found = factor * rates.seconds(total - possible, possible)
            if expected > SEPARATE * found and served * served < expected * found:
                actual = possible
        if missed > SEPARATE * expected and served * served > expected * missed:
            actual = 0
        if not state.tells_hits:
            state.cache.observe_hit(cached, possible, actual)
        return actual == cached

    def finish(
        self,
        now: float,
        outcome: Outcome,
        prompt_tokens: int = 0,
        cached_tokens: int = 0,
        output_tokens: int = 0,
    ) -> None:
        """See `gateway.routing.assignment.Assignment.finish`."""
        prompt = self._prompt
        if prompt is None:
            return
        self._prompt = None
        self.outcome = outcome
        state = self._state
        state.worker.in_flight -= 1
        if self.ttft is None:
            state.queue.cancel(self.key, now)
            if (peers := self._router.peers) is not None:
                peers.prefilled(self.key, answered=False)
            if outcome != "ok":
                state.cache.forget(prompt, self._depth)
        self.prompt_tokens = prompt_tokens
        self.cached_tokens = cached_tokens
        if prompt_tokens > 0:
            self._router.learn_density(prompt.total_bytes, prompt_tokens)
            if cached_tokens > 0:
                state.tells_hits = True
            if state.tells_hits:
                actual = prompt.total_bytes * cached_tokens // prompt_tokens
                state.cache.observe_hit(self._cached, self._possible, actual)
            if state.links is not None and self.ttft is not None and self._work.end_seen:
                told = cached_tokens if state.tells_hits else None
                first = self._now + self.ttft
                state.links.ended(EndedRequest(prompt, prompt_tokens, told, self._now, first, now))
        self._router.account.ended(self.policy, prompt_tokens, cached_tokens)

    def explanation(self) -> Explanation:
        """For people: plain values only."""
        return Explanation(
            at=self._now,
            policy=self.policy,
            worker=self.worker.id,
            reason=self.reason,
            candidates=self._candidates,
            prompt_bytes=self._total,
            cached_bytes=self._cached,
            estimate_s=self.estimate,
            ttft_s=self.ttft,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            outcome=self.outcome,
        )
