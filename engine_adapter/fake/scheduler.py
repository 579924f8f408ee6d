"""The scripted engine: a waiting queue, a bounded running set, prefills, and one clock for every token.

Sans-I/O: time is an argument, output goes to each job's `Sink`. Whoever drives it calls `submit`, `abort`,
`park`, `resume`, and `advance` when `next_when` says so. The life of a job:

    queued ──► prefill ──► decode ──► done
       └──────────┴───────────┴─ abort ──► done

One timer serves all streams: a job waits in a wheel of one-millisecond slots for its next token, or, when a
token takes no time at all, in a list that `advance` walks once per call, so that streams share the loop.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from engine_adapter.fake.block_pool import NO_SCOPE, Allocation, BlockPool, CacheScope
from engine_adapter.fake.config import Timing
from engine_adapter.fake.kv_events import KVEventPublisher
from engine_adapter.fake.stats import Abort, Phase, Stats
from engine_adapter.fake.timer_wheel import TimerWheel
from engine_adapter.fake.tokens import Prompt


class Sink(Protocol):
    """Where a job's output goes."""

    def step(self, job: Job, index: int) -> None:
        """Token `index` of every choice exists; called for streaming jobs only."""

    def complete(self, job: Job) -> None:
        """The job is done; nothing follows."""


class Job:
    """One request inside the engine."""

    __slots__ = (
        "allocations",
        "answers",
        "arrived",
        "cached_tokens",
        "due",
        "emitted",
        "finish_reason",
        "first_token_at",
        "last_token_at",
        "model",
        "parked",
        "phase",
        "prefill_began",
        "prefilled",
        "prompt_tokens",
        "prompts",
        "request_id",
        "scheduled",
        "scope",
        "sink",
        "steps",
        "streaming",
        "submitted",
        "tokens_per_step",
        "x_request_id",
    )

    def __init__(
        self,
        *,
        request_id: str,
        model: str,
        prompts: Sequence[Prompt],
        sink: Sink,
        streaming: bool,
        steps: int,
        x_request_id: str | None = None,
        answers: Sequence[Sequence[str]] = (),
        scope: CacheScope = NO_SCOPE,
        finish_reason: str = "stop",
        tokens_per_step: int = 1,
    ) -> None:
        """Describe a request: `steps` tokens per choice after the prefill, 0 for pooling.

        `answers` are the pieces each prompt's first choice will generate; without them (pooling) the job
        stays out of the prefix cache.
        """
        self.request_id = request_id
        self.x_request_id = x_request_id
        self.model = model
        self.prompts = prompts
        self.prompt_tokens = sum(prompt.count for prompt in prompts)
        self.answers = answers
        self.scope = scope
        self.sink = sink
        self.streaming = streaming
        self.steps = steps
        self.tokens_per_step = tokens_per_step
        self.finish_reason = finish_reason
        self.phase = Phase.QUEUED
        self.submitted = False
        self.parked = False
        self.prefilled = False
        self.scheduled = False
        """It waits in the wheel or among the ready."""
        self.emitted = 0
        self.cached_tokens = 0
        self.allocations: list[Allocation] = []
        self.arrived = self.prefill_began = self.first_token_at = self.last_token_at = self.due = 0.0


class Scheduler:
    """Decides when each job's prefill starts and each of its tokens appears."""

    def __init__(
        self,
        timing: Timing,
        max_num_seqs: int,
        stats: Stats,
        pool: BlockPool | None = None,
        publisher: KVEventPublisher | None = None,
    ) -> None:
        self._timing = timing
        self._max_num_seqs = max_num_seqs
        self._stats = stats
        self._pool = pool
        self._publisher = publisher
        self._waiting: deque[Job] = deque()
        self._running: set[Job] = set()
        self._prefilling = 0
        self._wheel: TimerWheel[Job] = TimerWheel()
        self._ready: list[Job] = []
        self._admitting = False

    @property
    def running(self) -> list[Job]:
        """Jobs admitted and not done."""
        return list(self._running)

    @property
    def waiting(self) -> list[Job]:
        """Jobs not admitted yet, in order."""
        return [job for job in self._waiting if job.phase is Phase.QUEUED]

    def submit(self, job: Job, now: float) -> None:
        """Queue a job; it may run to its end before this returns if nothing takes time."""
        job.arrived = now
        job.submitted = True
        self._stats.inference_requests += 1
        self._stats.waiting += 1
        self._waiting.append(job)
        self._admit(now)
        self._stats.changed()

    def abort(self, job: Job, now: float) -> None:
        """End a job whose client left; does nothing if it is done."""
        phase = job.phase
        if phase is Phase.DONE:
            return
        self._drop(job)
        self._stats.aborted[phase] += 1
        self._stats.finished["abort"] += 1
        self._stats.aborts.append(
            Abort(job.request_id, job.x_request_id, job.model, phase, time.time(), job.emitted)
        )
        self._admit(now)
        self._stats.changed()

    def fail(self, job: Job, now: float) -> None:
        """End a job by the engine's own fault, submitted or not; does nothing if it is done."""
        if job.phase is Phase.DONE:
            return
        if job.submitted:
            self._drop(job)
        job.phase = Phase.DONE
        self._stats.finished["error"] += 1
        self._admit(now)
        self._stats.changed()

    def park(self, job: Job) -> None:
        """Let a job make no further progress, e.g. while its client does not read; it keeps its place."""
        job.parked = True

    def resume(self, job: Job, now: float) -> None:
        """Let a parked job go on."""
        if not job.parked:
            return
        job.parked = False
        if job.scheduled:
            return
        job.due = now
        if job.phase is Phase.PREFILL and job.prefilled:
            self._begin_decode(job, now)
        elif job.phase is Phase.DECODE:
            self._await_next(job, now)

    def advance(self, now: float) -> None:
        """Do everything that is due by `now`."""
        ready, self._ready = self._ready, []
        for job in ready:
            job.scheduled = False
            if not job.parked and job.phase is Phase.DECODE:
                self._step(job, now)
        for job in self._wheel.pop_due(now):
            job.scheduled = False
            if job.phase is Phase.PREFILL:
                self._end_prefill(job, now)
            elif job.phase is Phase.DECODE and not job.parked:
                self._step(job, now)
        self._admit(now)

    def next_when(self, now: float) -> float | None:
        """When `advance` is needed next, `now` if at once, None if nothing is under way."""
        return now if self._ready else self._wheel.next_when()

    def _admit(self, now: float) -> None:
        # A job that takes no time ends inside this loop and calls back; the outer loop carries on.
        if self._admitting:
            return
        self._admitting = True
        slots = self._timing.prefill_slots
        while self._waiting:
            job = self._waiting[0]
            if job.phase is Phase.QUEUED:
                if len(self._running) >= self._max_num_seqs or (slots and self._prefilling >= slots):
                    break
                if not self._allocate(job):
                    break
            self._waiting.popleft()
            if job.phase is Phase.QUEUED:
                self._begin_prefill(job, now)
        self._admitting = False

    def _allocate(self, job: Job) -> bool:
        if self._pool is None or not job.answers:
            return True
        for prompt, answer in zip(job.prompts, job.answers, strict=True):
            allocation = self._pool.allocate(prompt, job.scope, answer)
            if allocation is None and not self._running:
                # Several prompts may need more than the whole pool: those beyond it go uncached.
                continue
            if allocation is None:
                for taken in job.allocations:
                    self._pool.free(taken)
                job.allocations = []
                return False
            job.allocations.append(allocation)
        job.cached_tokens = sum(allocation.cached_tokens for allocation in job.allocations)
        return True

    def _begin_prefill(self, job: Job, now: float) -> None:
        stats = self._stats
        stats.waiting -= 1
        stats.running += 1
        self._running.add(job)
        self._prefilling += 1
        job.phase = Phase.PREFILL
        job.prefill_began = now
        stats.queue_time.observe(now - job.arrived)
        duration = self._timing.prefill_s(job.prompt_tokens - job.cached_tokens)
        if duration > 0:
            job.scheduled = True
            self._wheel.schedule(now + duration, job)
        else:
            self._end_prefill(job, now)

    def _end_prefill(self, job: Job, now: float) -> None:
        stats = self._stats
        self._prefilling -= 1
        job.prefilled = True
        job.first_token_at = job.last_token_at = job.due = now
        stats.prompt_tokens += job.prompt_tokens
        stats.cached_tokens += job.cached_tokens
        stats.ttft.observe(now - job.arrived)
        stats.prefill_time.observe(now - job.prefill_began)
        self.publish()
        if not job.parked:
            self._begin_decode(job, now)

    def _begin_decode(self, job: Job, now: float) -> None:
        job.phase = Phase.DECODE
        if job.steps:
            self._step(job, now)
        else:
            self._finish(job, now)

    def _step(self, job: Job, now: float) -> None:
        index = job.emitted
        if index:
            self._stats.itl.observe(now - job.last_token_at)
        job.last_token_at = now
        job.emitted = index + 1
        if job.allocations:
            self._grow(job)
        if job.streaming:
            job.sink.step(job, index)
            if job.phase is Phase.DONE:  # a fault ended it
                return
        if job.emitted >= job.steps:
            self._finish(job, now)
        elif not job.parked:
            self._await_next(job, now)

    def _await_next(self, job: Job, now: float) -> None:
        """Put a decoding job where it waits for its next token."""
        interval = self._timing.itl_s(len(self._running))
        if interval > 0:
            # From the time it was due, not from now: late timers must not slow the stream.
            job.due += interval
            job.scheduled = True
            self._wheel.schedule(job.due, job)
        elif job.streaming:
            job.scheduled = True
            self._ready.append(job)
        else:
            # Nobody watches and nothing takes time: the rest is one step.
            self._stats.itl.observe(0.0, job.steps - job.emitted)
            job.emitted = job.steps
            if job.allocations:
                self._grow(job)
            self._finish(job, now)

    def _grow(self, job: Job) -> None:
        # The KV of a token exists once the next one is computed, so the newest has none yet.
        for allocation in job.allocations:
            computed = allocation.prompt.count + min(job.emitted, len(allocation.answer)) - 1
            if self._pool is not None and computed >= allocation.next_block_at:
                self._pool.grow(allocation, computed)
                self.publish()

    def _finish(self, job: Job, now: float) -> None:
        stats = self._stats
        self._leave(job)
        stats.finished[job.finish_reason] += 1
        stats.generation_tokens += job.steps * job.tokens_per_step
        stats.e2e.observe(now - job.arrived)
        stats.decode_time.observe(now - job.first_token_at)
        job.sink.complete(job)
        self._admit(now)
        stats.changed()

    def _drop(self, job: Job) -> None:
        """Take an unfinished job out, wherever it is."""
        if job.phase is Phase.QUEUED:
            self._stats.waiting -= 1
            job.phase = Phase.DONE
            return
        if not job.prefilled:
            self._prefilling -= 1
        self._leave(job)
        self.publish()

    def _leave(self, job: Job) -> None:
        job.phase = Phase.DONE
        self._running.discard(job)
        self._stats.running -= 1
        if self._pool is not None:
            for allocation in job.allocations:
                self._pool.free(allocation)
        job.allocations = []

    def publish(self) -> None:
        """Send what the cache recorded since the last batch."""
        if self._publisher is not None and self._pool is not None and (events := self._pool.take_events()):
            self._publisher.publish(events, time.time())
