"""One request at one worker: what was expected of it, and what is learned when it turns out otherwise."""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.routing.account import PolicyAccount
from gateway.routing.assignment import Outcome
from gateway.routing.estimate import WARM_UP, ModelRates, Work
from gateway.routing.explain import Explanation
from gateway.routing.fingerprint import Fingerprint
from gateway.routing.fleet import Worker
from gateway.routing.policies.base import Policy
from gateway.routing.state import EndedRequest, WorkerState

if TYPE_CHECKING:
    from gateway.routing.router import Router

SEPARATE: Final = 1.5
"""A service time tells a hit from a miss only if the two would differ by this factor,"""
SPREADS: Final = 5.0
"""and by this many mean deviations of a prefill from its estimate (four standard deviations)."""
FEW_TOKENS: Final = 8
"""Answers up to this long say little about the time between tokens."""


class Lane:
    """What requests for one model under one policy share."""

    __slots__ = ("account", "candidates", "decode", "name", "policy", "rates")

    def __init__(self, name: str, policy: Policy, rates: ModelRates, account: PolicyAccount) -> None:
        self.name = name
        self.policy = policy
        self.rates, self.decode = rates
        self.account = account
        self.candidates: list[WorkerState] | None = None
        """Who serves the model and accepts requests; None after a change of that."""

    def estimate(self, state: WorkerState, work: Work, now: float) -> float:
        """Seconds to the first token of `work`, if it goes there now."""
        rates, factor = self.rates, state.speed.factor
        waiting = state.queue.seconds(rates, factor, now)
        return waiting + factor * rates.of(work) + self.decode.slope * state.worker.in_flight


class RoutedRequest(msgspec.Struct, eq=False):
    """Implements `Assignment`. `finish` must be called once, then `counted`; second calls are ignored."""

    _router: Router
    _lane: Lane
    _state: WorkerState
    worker: Worker
    _prompt: Fingerprint | None
    _depth: int
    _total: int
    _cached: int
    _possible: int
    """Bytes of the prompt: all, those thought to be cached, those that would be had nothing that is still in
    sight been evicted."""
    _work: Work
    _why: str
    candidates: int
    _now: float
    estimate: float
    """Predicted seconds to the first token."""
    key: int = 0
    """Number under which peers know it."""
    ttft: float | None = None
    outcome: Outcome | None = None
    _ended: float = 0.0
    _beside: int = 0
    """Requests at the worker when it ended, itself included."""
    prompt_tokens: int = 0
    cached_tokens: int = 0

    @property
    def policy(self) -> str:
        """Name of the policy that chose."""
        return self._lane.name

    @property
    def reason(self) -> str:
        """See `Assignment.reason`: bytes that are cached, bytes to be loaded, and the estimate."""
        hit = f"{self._lane.name}:hit={self._cached}/{self._total}B"
        if self._work.loaded:
            hit += f",load={self._work.loaded}B"
        why = f",{self._why}" if self._why else ""
        return f"{hit},est={self.estimate * 1e3:.0f}ms{why}"

    def first_byte(self, now: float) -> None:
        """See `Assignment.first_byte`. Later calls are ignored."""
        if self.ttft is not None or self.outcome is not None:
            return
        self.ttft = now - self._now
        state = self._state
        served = state.queue.done(self, now)
        if (peers := self._router.peers) is not None:
            peers.prefilled(self.key, answered=True)
        if not self._work.end_seen:
            return
        if served is not None and self._was_as_predicted(served):
            state.learn(self._lane.rates, self._work, served)
        self._lane.account.predicted(self.estimate, self.ttft)

    def _was_as_predicted(self, served: float) -> bool:
        """Was as much of the prompt cached as the mirror said, judging by the time that the prefill took?

        Without token counts from the engine this is also what the mirror learns from.
        """
        rates, state = self._lane.rates, self._state
        cached, possible = self._cached, self._possible
        if cached == possible == 0 or rates.observations < WARM_UP or self._work.loaded:
            return True
        factor = state.speed.factor
        separate = max(SEPARATE, exp(SPREADS * rates.spread))
        expected = factor * rates.of(self._work)
        actual = cached
        missed = factor * rates.seconds(self._total, 0)
        if possible > cached:
            found = factor * rates.seconds(self._total - possible, possible)
            if expected > separate * found and served * served < expected * found:
                actual = possible
        if missed > separate * expected and served * served > expected * missed:
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
        """See `Assignment.finish`."""
        if self.outcome is not None:
            return
        self.outcome = outcome
        worker = self.worker
        beside = worker.in_flight
        worker.in_flight = beside - 1
        if beside >= worker.limit:
            worker.changed()
        if self._work.end_seen:  # only then is anything learned from the times
            self._ended, self._beside = now, beside
        if self.ttft is None:
            self._state.queue.cancel(self, now)
            if (peers := self._router.peers) is not None:
                peers.prefilled(self.key, answered=False)
            if outcome != "ok" and self._prompt is not None:
                self._state.cache.forget(self._prompt, self._depth)
        self._lane.account.ended += 1
        if prompt_tokens or output_tokens:
            self.counted(prompt_tokens, cached_tokens, output_tokens)

    def counted(self, prompt_tokens: int, cached_tokens: int, output_tokens: int) -> None:
        """See `Assignment.counted`."""
        prompt = self._prompt
        if prompt is None:
            return
        self._prompt = None
        state = self._state
        if prompt_tokens > 0:
            account = self._lane.account
            account.prompt_tokens += prompt_tokens
            self.prompt_tokens = prompt_tokens
            self._router.density.observe(self._total, prompt_tokens)
            if cached_tokens > 0:
                account.cached_tokens += cached_tokens
                self.cached_tokens = cached_tokens
                state.tells_hits = True
            if state.tells_hits:
                self._learn_hits(prompt)
        if self._work.end_seen and self.ttft is not None:
            if output_tokens > FEW_TOKENS:
                between = (self._ended - self._now - self.ttft) / (output_tokens - 1)
                self._lane.decode.observe(self._beside, between)
            if state.links is not None and prompt_tokens > 0:
                told = cached_tokens if state.tells_hits else None
                first = self._now + self.ttft
                state.links.ended(EndedRequest(prompt, prompt_tokens, told, self._now, first, self._ended))

    def _learn_hits(self, prompt: Fingerprint) -> None:
        """The engine said how many of the prompt's tokens were cached."""
        cache = self._state.cache
        found = self._total * self.cached_tokens // self.prompt_tokens
        if not self._work.loaded:
            cache.observe_hit(self._cached, self._possible, found)
        elif found < self._cached + self._work.loaded // 2:
            cache.missed_lower(prompt, self._depth)

    def explanation(self) -> Explanation:
        """For people: plain values only."""
        return Explanation(
            at=self._now,
            policy=self.policy,
            worker=self.worker.id,
            reason=self.reason,
            candidates=self.candidates,
            prompt_bytes=self._total,
            cached_bytes=self._cached,
            estimate_s=self.estimate,
            ttft_s=self.ttft,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            outcome=self.outcome,
        )
