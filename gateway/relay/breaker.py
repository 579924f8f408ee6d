"""Circuit breaker of one worker: a table of states; it does no I/O and is told the time.

    closed ──tripped──► open ──cooled──► half_open ──tried──► trial ──passed──► closed
                         ▲                   ▲                  │ │
                         └──────failed───────┼──────────────────┘ │
                                             └─────abandoned──────┘

`half_open` lets exactly one request through. While that trial is out, the breaker shows `open` to the
router (`Worker.breaker`), so that nobody else need know that trials exist.

Only the answer's head decides: a worker that answers with a status below 500 works, however long its
stream then takes. Answers to requests that were sent before the breaker opened say nothing new and are
ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from gateway.relay.settings import HealthChecks
from gateway.routing.fleet import Breaker, Fleet, Worker

State = Literal["closed", "open", "half_open", "trial"]
Event = Literal["tripped", "cooled", "tried", "passed", "failed", "abandoned"]

TRANSITIONS: Mapping[tuple[State, Event], State] = {
    ("closed", "tripped"): "open",
    ("open", "cooled"): "half_open",
    ("half_open", "tried"): "trial",
    ("trial", "passed"): "closed",
    ("trial", "failed"): "open",
    ("trial", "abandoned"): "half_open",
}

SHOWN: Mapping[State, Breaker] = {
    "closed": "closed",
    "open": "open",
    "half_open": "half_open",
    "trial": "open",
}
"""What the router sees."""


class CircuitBreaker:
    """Breaker of one worker; every change is written to `worker.breaker`.

    The data plane calls `sent` for each attempt and exactly one of `succeeded`, `failed` and `abandoned`
    for it, handing back what `sent` returned. A timer calls `tick`.
    """

    __slots__ = (
        "_failures",
        "_open_seconds",
        "_reopens_at",
        "_settings",
        "_trials",
        "opened",
        "state",
        "worker",
    )

    def __init__(self, worker: Worker, settings: HealthChecks) -> None:
        self.worker = worker
        self.state: State = "closed"
        self.opened = 0
        """How often it has opened."""
        self._settings = settings
        self._failures = 0
        self._open_seconds = settings.breaker_open_seconds
        self._reopens_at = 0.0
        self._trials = 0
        worker.breaker = "closed"

    def sent(self) -> int:
        """An attempt goes to the worker. Not 0 if it is the one trial of a half-open breaker."""
        if self.state != "half_open":
            return 0
        self._go("tried")
        self._trials += 1
        return self._trials

    def succeeded(self, trial: int) -> None:
        """The head of an answer came, with a status that does not blame the worker."""
        if self.state == "closed":
            self._failures = 0
        elif self._is_running(trial):
            self._go("passed")
            self._open_seconds = self._settings.breaker_open_seconds
            self._failures = 0

    def failed(self, now: float, trial: int, *, refused: bool = False) -> None:
        """The worker failed the attempt. `refused`: nothing listens there, which needs no second proof."""
        if self.state == "closed":
            self._failures += 1
            if refused or self._failures >= self._settings.breaker_failures:
                self._open("tripped", now)
        elif self._is_running(trial):
            self._open_seconds = min(2 * self._open_seconds, self._settings.breaker_open_max)
            self._open("failed", now)

    def abandoned(self, trial: int) -> None:
        """The attempt ended without a verdict, e.g. the client left before an answer began."""
        if self._is_running(trial):
            self._go("abandoned")

    def tick(self, now: float) -> None:
        """Let the trial through once the pause is over."""
        if self.state == "open" and now >= self._reopens_at:
            self._go("cooled")

    def recovered(self) -> None:
        """An active probe found the worker up again after it was down: the trial need not wait."""
        if self.state == "open":
            self._go("cooled")

    def reset(self) -> None:
        """The worker is a new process: what the old one did counts no more."""
        self.state = "closed"
        self.worker.breaker = "closed"
        self._failures = 0
        self._open_seconds = self._settings.breaker_open_seconds

    def _is_running(self, trial: int) -> bool:
        return self.state == "trial" and trial == self._trials

    def _open(self, event: Event, now: float) -> None:
        self._go(event)
        self.opened += 1
        self._failures = 0
        self._reopens_at = now + self._open_seconds

    def _go(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state, event]
        self.worker.breaker = SHOWN[self.state]


class Breakers:
    """The breakers of a fleet, one per worker, made and dropped as workers come and go."""

    __slots__ = ("_breakers", "_settings")

    def __init__(self, fleet: Fleet, settings: HealthChecks) -> None:
        self._settings = settings
        self._breakers = {worker: CircuitBreaker(worker, settings) for worker in fleet}
        fleet.subscribe(self._membership)

    def __iter__(self) -> Iterator[CircuitBreaker]:
        return iter(self._breakers.values())

    def of(self, worker: Worker) -> CircuitBreaker:
        """The worker's breaker; one of its own, kept nowhere, for a worker that has left the fleet."""
        return self._breakers.get(worker) or CircuitBreaker(worker, self._settings)

    def tick(self, now: float) -> None:
        for breaker in self._breakers.values():
            breaker.tick(now)

    def _membership(self, event: Literal["joined", "left", "restarted"], worker: Worker) -> None:
        if event == "joined":
            self._breakers[worker] = CircuitBreaker(worker, self._settings)
        elif event == "left":
            self._breakers.pop(worker, None)
        else:
            self.of(worker).reset()
