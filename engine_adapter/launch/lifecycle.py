"""The life of one supervised process, as a state machine without I/O.

States are those of the fleet file (`engine_adapter.api.WorkerState`):

    stopped ──start──► starting ──answered──► ready
       ▲                   │                    │ exited, or killed because it no longer answers
       │                   ▼                    ▼
       │                (exited) ──────────► backoff ──tick──► starting (generation + 1)
       │                                        │ too many failures in a row, or one that cannot heal
       └────exited── draining ◄──stop──         ▼
                                              failed

The driver reports what happened together with the time; the answers are the actions it must carry out.
"""

from __future__ import annotations

import math
import signal
from dataclasses import dataclass

from engine_adapter.api import WorkerState
from engine_adapter.launch.settings import SupervisionSettings


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the process. `other_ports`: its last ports turned out to be taken."""

    other_ports: bool = False


@dataclass(frozen=True, slots=True)
class Kill:
    """Send `signal` to the process group."""

    signal: signal.Signals


Action = Spawn | Kill


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a process ended, for a person and for the decision what to do next."""

    text: str
    permanent: bool = False
    """Starting it again cannot help: give up at once."""
    port_taken: bool = False


class Lifecycle:
    """One process. `probed=False` is for processes that count as ready as soon as they run."""

    def __init__(self, settings: SupervisionSettings, *, probed: bool = True) -> None:
        self.state: WorkerState = "stopped"
        self.message = ""
        self.generation = 0
        self.failures = 0
        self._settings = settings
        self._probed = probed
        self._ready_at = math.inf
        self._answered_at = 0.0
        self._deadline = math.inf
        self._retiring = False
        self._other_ports = False
        self._verdict: Cause | None = None
        """Why we killed it ourselves; wins over what its exit looks like."""

    @property
    def running(self) -> bool:
        """Is there a process?"""
        return self.state in ("starting", "ready", "draining")

    @property
    def over(self) -> bool:
        """Will there never be a process again, as things stand?"""
        return self.state in ("stopped", "failed")

    @property
    def deadline(self) -> float:
        """The time at which `tick` has something to do; infinity if nothing is due."""
        if self.state == "ready":
            return self._answered_at + self._settings.unresponsive_seconds if self._probed else math.inf
        return self._deadline

    def start(self, now: float) -> list[Action]:
        """Begin: only from `stopped`, and only once."""
        if self.state != "stopped" or self._retiring:
            return []
        return self._spawn(now)

    def answered(self, now: float) -> None:
        """A health probe succeeded."""
        self._answered_at = now
        if self.state == "starting":
            self.state, self.message = "ready", ""
            self._ready_at, self._deadline = now, math.inf

    def exited(self, now: float, cause: Cause) -> list[Action]:
        """The process ended for `cause`."""
        if not self.running:
            return []
        if self._verdict is not None:
            cause = self._verdict
        if self._retiring:
            self.state, self.message, self._deadline = "stopped", "", math.inf
            return []
        if now - self._ready_at >= self._settings.stable_seconds:
            self.failures = 0
        self.failures += 1
        self._other_ports = cause.port_taken
        if cause.permanent or self.failures >= self._settings.give_up_after:
            self.state, self._deadline = "failed", math.inf
            tries = "" if cause.permanent else f" (given up after {self.failures} failures in a row)"
            self.message = cause.text + tries
            return []
        pause = min(
            self._settings.backoff_initial * 2.0 ** (self.failures - 1),
            self._settings.backoff_max,
        )
        self.state, self._deadline = "backoff", now + pause
        self.message = f"{cause.text} (failure {self.failures}, next try in {pause:g} s)"
        return []

    def tick(self, now: float) -> list[Action]:
        """Time has passed: do what is due."""
        if now < self.deadline:
            return []
        if self.state == "backoff":
            self.generation += 1
            return self._spawn(now)
        if self.state == "draining":
            self._deadline = math.inf
            return [Kill(signal.SIGKILL)]
        if self.state == "starting" and self._verdict is None:
            self._deadline = math.inf
            limit = self._settings.start_timeout
            self._verdict = Cause(f"not ready {limit:g} s after its start (supervision.start_timeout)")
            return [Kill(signal.SIGKILL)]
        if self.state == "ready" and self._verdict is None:
            self._answered_at = math.inf
            limit = self._settings.unresponsive_seconds
            self._verdict = Cause(f"answered no health probe for {limit:g} s")
            return [Kill(signal.SIGKILL)]
        return []

    def retire(self) -> None:
        """Let it run, but do not start it again."""
        self._retiring = True
        if self.state == "backoff":
            self.state, self._deadline = "stopped", math.inf

    def stop(self, now: float) -> list[Action]:
        """End it: SIGTERM now, SIGKILL after the grace period."""
        self.retire()
        if self.state not in ("starting", "ready"):
            return []
        self.state, self._deadline = "draining", now + self._settings.stop_grace
        return [Kill(signal.SIGTERM)]

    def kill(self) -> list[Action]:
        """End it at once."""
        self.retire()
        if not self.running:
            return []
        self.state, self._deadline = "draining", math.inf
        return [Kill(signal.SIGKILL)]

    def _spawn(self, now: float) -> list[Action]:
        self._answered_at = now
        self._verdict = None
        if self._probed:
            self.state, self._ready_at = "starting", math.inf
            self._deadline = now + self._settings.start_timeout
        else:
            self.state, self._ready_at, self._deadline = "ready", now, math.inf
        self.message = ""
        return [Spawn(other_ports=self._other_ports)]
