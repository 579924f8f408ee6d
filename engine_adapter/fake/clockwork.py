"""Drives the scheduler from an asyncio loop: real time in, one timer for everything that is due."""

from __future__ import annotations

import asyncio
import math
import time

from engine_adapter.fake.scheduler import Job, Scheduler

_TICK_S = 0.001
"""Resolution of the scheduler's wheel and of uvloop's timers."""


class Clockwork:
    """The scheduler's verbs with the clock filled in, and the timer set after each."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.Handle | None = None
        self._set_for = math.inf

    def start(self) -> None:
        """Use the running loop."""
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """Let nothing happen any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop = None

    def submit(self, job: Job) -> None:
        """Queue a job."""
        now = time.monotonic()
        self.scheduler.submit(job, now)
        self._set_timer(now)

    def abort(self, job: Job) -> None:
        """End a job whose client left."""
        now = time.monotonic()
        self.scheduler.abort(job, now)
        self._set_timer(now)

    def fail(self, job: Job) -> None:
        """End a job by the engine's own fault."""
        now = time.monotonic()
        self.scheduler.fail(job, now)
        self._set_timer(now)

    def park(self, job: Job) -> None:
        """Stop a job's progress."""
        self.scheduler.park(job)

    def resume(self, job: Job) -> None:
        """Let a parked job go on."""
        now = time.monotonic()
        self.scheduler.resume(job, now)
        self._set_timer(now)

    def _tick(self) -> None:
        self._timer = None
        self._set_for = math.inf
        now = time.monotonic()
        self.scheduler.advance(now)
        self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        when = self.scheduler.next_when(now)
        if when is None or self._loop is None or when >= self._set_for:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._set_for = when
        if when <= now:
            self._timer = self._loop.call_soon(self._tick)
        else:
            # Rounded up to the loop's resolution: a timer that fires early would only be set again.
            self._timer = self._loop.call_later(math.ceil((when - now) / _TICK_S) * _TICK_S, self._tick)
