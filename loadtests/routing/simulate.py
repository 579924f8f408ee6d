"""The event loop in virtual time, and the figures of a run."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Protocol

from loadtests.routing.engine import EngineSettings, Flight, SimEngine
from loadtests.routing.workload import SimRequest


class Chooser(Protocol):
    """A router under test. It is told what a gateway would see, in the order of events."""

    def choose(self, flight: Flight, now: float, exclude: frozenset[int]) -> int:
        """Engine for the request, which counts there from now on."""

    def first_token(self, flight: Flight, now: float) -> None:
        """The prefill is over."""

    def ended(self, flight: Flight, now: float, ok: bool) -> None:
        """The answer is complete, or the request failed there."""

    def stored(self, engine: int, flight: Flight, stored: list[int], evicted: list[int], now: float) -> None:
        """The engine's KV events of one prefill."""

    def went_down(self, engine: int, now: float) -> None:
        """The engine died; what it had is gone."""

    def came_up(self, engine: int, now: float) -> None:
        """It is back, with an empty cache."""


MakeChooser = Callable[[list[SimEngine]], Chooser]


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything of a scenario but the requests and the router."""

    engines: int = 4
    engine: EngineSettings = field(default_factory=EngineSettings)
    speeds: Sequence[float] = ()
    """Relative speed per engine, 1 where not given."""
    restart: tuple[int, float, float] | None = None
    """Engine, when it goes down, for how many seconds."""
    patience_s: float = 120.0
    """A request that has not begun its prefill after this long has failed, and is not computed."""

    def speed(self, engine: int) -> float:
        return self.speeds[engine] if engine < len(self.speeds) else 1.0


@dataclass(frozen=True, slots=True)
class Result:
    """TTFT in seconds over the requests that got a first token; shares from 0 to 1."""

    requests: int
    success: float
    mean: float
    p50: float
    p90: float
    p99: float
    hit: float
    """Prompt blocks served from a cache."""
    imbalance: float
    """Prefill work of the busiest engine over the mean."""


def simulate(requests: list[SimRequest], setup: Setup, make: MakeChooser) -> Result:
    """Replay `requests`; those with a parent arrive a think time after its end, the others at their time."""
    return _Simulation(requests, setup, make).run()


class _Simulation:
    def __init__(self, requests: list[SimRequest], setup: Setup, make: MakeChooser) -> None:
        self.requests = requests
        self.setup = setup
        self.engines = [SimEngine(setup.engine, setup.speed(i)) for i in range(setup.engines)]
        self.chooser = make(self.engines)
        self.events: list[tuple[float, int, Callable[[float], None]]] = []
        self.order = count()
        self.ttft: list[float] = []
        self.succeeded = 0

    def at(self, when: float, what: Callable[[float], None]) -> None:
        heapq.heappush(self.events, (when, next(self.order), what))

    def run(self) -> Result:
        for index, request in enumerate(self.requests):
            if request.parent is None:
                self.at(request.at, partial(self.arrive, index))
        if self.setup.restart is not None:
            engine, when, outage = self.setup.restart
            self.at(when, partial(self.down, engine))
            self.at(when + outage, partial(self.up, engine))
        while self.events:
            now, _, what = heapq.heappop(self.events)
            what(now)
        return figures(len(self.requests), self.succeeded, self.ttft, self.engines)

    def arrive(self, index: int, now: float) -> None:
        self.send(index, now, now, frozenset())

    def send(self, index: int, arrived: float, now: float, exclude: frozenset[int]) -> None:
        flight = Flight(index, self.requests[index], arrived)
        flight.engine = self.chooser.choose(flight, now, exclude)
        self.engines[flight.engine].waiting.append(flight)
        self.begin(self.engines[flight.engine], now)

    def begin(self, engine: SimEngine, now: float) -> None:
        while engine.up and engine.waiting and engine.serving is None:
            if now - engine.waiting[0].arrived > self.setup.patience_s:
                self.end(engine.waiting.popleft(), now, ok=False)
                continue
            flight = engine.begin(now)
            self.at(engine.busy_until, partial(self.prefilled, flight))

    def prefilled(self, flight: Flight, now: float) -> None:
        if flight.ended:
            return
        engine = self.engines[flight.engine]
        engine.serving = None
        self.ttft.append(now - flight.arrived)
        stored, evicted = engine.cache.touch(flight.request.blocks)
        self.chooser.stored(flight.engine, flight, stored, evicted, now)
        self.chooser.first_token(flight, now)
        engine.decoding.add(flight)
        self.at(now + flight.request.output_tokens * self.setup.engine.itl_s, partial(self.decoded, flight))
        self.begin(engine, now)

    def decoded(self, flight: Flight, now: float) -> None:
        if not flight.ended:
            self.engines[flight.engine].decoding.discard(flight)
            self.end(flight, now, ok=True)

    def end(self, flight: Flight, now: float, ok: bool) -> None:
        flight.ended = True
        self.succeeded += ok
        self.chooser.ended(flight, now, ok)
        for child in flight.request.children:
            self.at(now + self.requests[child].think, partial(self.arrive, child))

    def down(self, number: int, now: float) -> None:
        """What streams is lost; what has no first token yet is sent elsewhere, as a gateway would."""
        engine = self.engines[number]
        lost = [f for f in (engine.serving, *engine.waiting) if f is not None]
        streaming = list(engine.decoding)
        engine.up, engine.serving = False, None
        engine.waiting.clear()
        engine.decoding.clear()
        engine.cache.clear()
        self.chooser.went_down(number, now)
        for flight in streaming:
            self.end(flight, now, ok=False)
        for flight in lost:
            flight.ended = True
            self.chooser.ended(flight, now, ok=False)
            self.send(flight.index, flight.arrived, now, frozenset((number,)))

    def up(self, number: int, now: float) -> None:
        self.engines[number].up = True
        self.chooser.came_up(number, now)


def figures(requests: int, succeeded: int, ttft: list[float], engines: list[SimEngine]) -> Result:
    """Of a simulated run."""
    work = [e.work for e in engines]
    return Result(
        requests=requests,
        success=succeeded / max(1, requests),
        **quantiles(ttft),
        hit=sum(e.hit for e in engines) / max(1, sum(e.total for e in engines)),
        imbalance=max(work) / (sum(work) / len(work) or 1.0),
    )


def quantiles(ttft: Sequence[float]) -> dict[str, float]:
    """Mean, p50, p90 and p99, taken as the yardstick takes them; not a number where nothing was answered."""
    ordered = sorted(ttft)

    def quantile(p: float) -> float:
        return ordered[min(len(ordered) - 1, int(p * len(ordered)))] if ordered else float("nan")

    mean = sum(ordered) / len(ordered) if ordered else float("nan")
    return {"mean": mean, "p50": quantile(0.5), "p90": quantile(0.9), "p99": quantile(0.99)}
