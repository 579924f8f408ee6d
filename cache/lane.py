"""One thread that does jobs in order, with a bound on how many may wait."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol


class TransferLane(Protocol):
    """Does jobs in order, somewhere else."""

    @property
    def began(self) -> float | None:
        """When the job at work began, None while there is none."""
        ...

    def submit(self, job: Callable[[], object]) -> bool:
        """Queue a job; False, and nothing queued, if it will not be done."""
        ...

    def close(self, seconds: float) -> bool:
        """Finish what is queued, for at most `seconds`; returns whether nothing runs any more."""
        ...


MakeLane = Callable[[str, int, Callable[[], float]], TransferLane]
"""From a name, how many jobs may wait, and a clock."""

_log = logging.getLogger(__name__)


class Lane:
    """Runs jobs on a daemon thread of its own, started by the first job.

    A job that hangs blocks its lane only: nobody waits for a lane except `close`, and that not for long.
    """

    def __init__(self, name: str, limit: int, clock: Callable[[], float]) -> None:
        self._name = name
        self._limit = limit
        self._clock = clock
        self._jobs: deque[Callable[[], object]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.began: float | None = None
        """When the job at work began, None while there is none."""

    def submit(self, job: Callable[[], object]) -> bool:
        """Queue a job; False, and nothing queued, if too many wait or the lane is closed."""
        with self._changed:
            if self._closed or len(self._jobs) >= self._limit:
                return False
            self._jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            else:
                self._changed.notify()
            return True

    def close(self, seconds: float) -> bool:
        """Finish what is queued, for at most `seconds`; returns whether the thread has ended."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread is None:
            return True
        thread.join(seconds)
        return not thread.is_alive()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            self.began = self._clock()
            try:
                job()
            except Exception:
                # The thread must outlive a fault in one job: every later transfer depends on it.
                _log.exception("a transfer of %s failed in a way that nobody foresaw", self._name)
            self.began = None

    def _next(self) -> Callable[[], object] | None:
        with self._changed:
            while not self._jobs:
                if self._closed:
                    return None
                self._changed.wait()
            return self._jobs.popleft()
