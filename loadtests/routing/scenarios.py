"""What is run: scenarios by name, each a list of rows of (parameter, router, figures)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from gateway.routing.settings import RoutingSettings
from loadtests.routing import rivals
from loadtests.routing.engine import EngineSettings, SimEngine
from loadtests.routing.ours import Replicas, Sluice, SluiceWithEvents
from loadtests.routing.simulate import Chooser, MakeChooser, Result, Setup, simulate
from loadtests.routing.workload import (
    BLOCK_TOKENS,
    QUESTION_BLOCKS,
    SYSTEM_BLOCKS,
    SimRequest,
    Texts,
    read_trace,
    shared_prefixes,
    spread,
    with_think_times,
)

SHORT = 3000
"""Requests of the trace that all scenarios but the first replay: 15 minutes of it."""
BLOCK_BYTES = 256
"""Characters that spell a block, as in the yardstick; 2,048 would be four to a token."""


@dataclass(frozen=True, slots=True)
class Row:
    """One run."""

    scenario: str
    parameter: str
    router: str
    result: Result

    def plain(self) -> dict[str, object]:
        """For JSON, figures rounded to what they are worth."""
        figures = {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in asdict(self.result).items()
        }
        return {"scenario": self.scenario, "parameter": self.parameter, "router": self.router, **figures}


def sluice(
    block_bytes: int = BLOCK_BYTES, usage: bool = True, sized: bool = True, **settings: object
) -> MakeChooser:
    """Our router; `settings` are RoutingSettings fields."""
    texts = Texts(block_bytes)

    def make(engines: list[SimEngine]) -> Chooser:
        return Sluice(engines, _settings(block_bytes, settings), texts, usage, sized)

    return make


def sluice_with_events(loss: float = 0.0, replay: bool = True, **settings: object) -> MakeChooser:
    """Our router with KV events."""
    texts = Texts(BLOCK_BYTES)

    def make(engines: list[SimEngine]) -> Chooser:
        return SluiceWithEvents(engines, _settings(BLOCK_BYTES, settings), texts, loss, replay)

    return make


def replicas(
    count: int, poll_s: float | None = None, news_s: float | None = None, **settings: object
) -> MakeChooser:
    """`count` gateways side by side (see `Replicas`)."""
    texts = Texts(BLOCK_BYTES)

    def make(engines: list[SimEngine]) -> Chooser:
        each = [
            Sluice(engines, replace(_settings(BLOCK_BYTES, settings), seed=n), texts) for n in range(count)
        ]
        return Replicas(engines, each, poll_s, news_s)

    return make


def _settings(block_bytes: int, settings: Mapping[str, object]) -> RoutingSettings:
    """`bytes_per_token` starts at what the spelling is: engines that report no usage could not correct it."""
    given = {"seed": 0, "bytes_per_token": block_bytes / BLOCK_TOKENS, **settings}
    return RoutingSettings(**given)  # type: ignore[arg-type]


OURS = "sluice ttft"
ORACLE = "greedy oracle"
EVERYBODY: Mapping[str, MakeChooser] = {
    ORACLE: rivals.GreedyOracle,
    OURS: sluice(),
    "sglang cache_aware": rivals.SglangCacheAware,
    "sglang cache_aware, smallest tree": rivals.SglangSmallestTree,
    "production-stack prefixaware": rivals.StackPrefixAware,
    "production-stack loadaware": rivals.StackLoadAware,
    "llm-d 3/2/2": rivals.LlmD,
    "Dynamo": rivals.Dynamo,
    "LMetric": rivals.LMetric,
    "Preble": rivals.Preble,
    "least load": rivals.LeastLoad,
    "power of two": rivals.PowerOfTwo,
    "round robin": rivals.RoundRobin,
    "random": rivals.RandomChoice,
}
SHORT_LIST = (
    ORACLE,
    OURS,
    "sglang cache_aware",
    "production-stack loadaware",
    "llm-d 3/2/2",
    "Dynamo",
    "LMetric",
    "Preble",
    "least load",
    "round robin",
)
VARIANTS: Mapping[str, MakeChooser] = {
    "sluice ttft, greedy (foresight 0)": sluice(foresight=0.0),
    "sluice ttft, cache size learned": sluice(sized=False),
    "sluice ttft, cache size learned, no usage from engines": sluice(sized=False, usage=False),
    "sluice ttft, 2,048 bytes a block": sluice(block_bytes=2048),
    "sluice ttft, KV events": sluice_with_events(),
    "sluice prefix": sluice(policy="prefix"),
    "sluice prefix_exact, KV events": sluice_with_events(policy="prefix_exact"),
    "sluice least_load": sluice(policy="least_load"),
    "sluice power_of_two": sluice(policy="power_of_two"),
}


@dataclass(frozen=True, slots=True)
class Trace:
    """The recorded trace, read as often as a scenario wants it."""

    path: Path
    limit: int

    def requests(self, limit: int | None = None, speedup: float = 1.0) -> list[SimRequest]:
        return read_trace(self.path, min(self.limit, limit or self.limit), speedup)


def _rows(
    scenario: str,
    parameter: str,
    requests: list[SimRequest],
    setup: Setup,
    routers: Mapping[str, MakeChooser],
) -> Iterator[Row]:
    for name, make in routers.items():
        yield Row(scenario, parameter, name, simulate(requests, setup, make))


def _short_list() -> dict[str, MakeChooser]:
    return {name: EVERYBODY[name] for name in SHORT_LIST}


def yardstick(trace: Trace) -> Iterator[Row]:
    """The yardstick's settings and its 1,500 requests, then the whole trace."""
    for limit in (1500, trace.limit):
        requests = trace.requests(limit)
        yield from _rows(
            "yardstick", f"{len(requests)} requests", requests, Setup(), {**EVERYBODY, **VARIANTS}
        )


def cache_sizes(trace: Trace) -> Iterator[Row]:
    """Cache of each engine in blocks of 512 tokens."""
    requests = trace.requests(SHORT)
    for blocks in (400, 1500, 4000):
        setup = Setup(engine=EngineSettings(cache_blocks=blocks))
        yield from _rows("cache_sizes", f"{blocks} blocks", requests, setup, _short_list())


def fleet_sizes(trace: Trace) -> Iterator[Row]:
    """Arrivals are sped up with the number of engines, so that each has the same load."""
    for engines in (2, 4, 8, 16):
        requests = trace.requests(SHORT, speedup=engines / 4)
        yield from _rows("fleet_sizes", f"{engines} engines", requests, Setup(engines=engines), _short_list())


def half_speed(trace: Trace) -> Iterator[Row]:
    """One of four engines at half speed; nobody is told, only the oracle knows."""
    yield from _rows(
        "half_speed", "speeds 0.5, 1, 1, 1", trace.requests(SHORT), Setup(speeds=(0.5,)), _short_list()
    )


def noise(trace: Trace) -> Iterator[Row]:
    """Prefills take longer or shorter than anybody can predict; the oracle knows the mean."""
    learned = "sluice ttft, cache size learned, no usage from engines"
    routers = {**_short_list(), learned: VARIANTS[learned]}
    for sigma in (0.2, 0.5):
        setup = Setup(engine=EngineSettings(noise=sigma))
        yield from _rows("noise", f"sigma {sigma}", trace.requests(SHORT), setup, routers)


def restart(trace: Trace) -> Iterator[Row]:
    """One engine dies in the middle and is back after 30 s with an empty cache."""
    requests = trace.requests(SHORT)
    middle = requests[len(requests) // 2].at
    setup = Setup(restart=(0, middle, 30.0))
    yield from _rows("restart", "engine 0 down for 30 s", requests, setup, _short_list())


def lost_events(trace: Trace) -> Iterator[Row]:
    """One in ten KV event batches does not arrive."""
    requests = trace.requests(SHORT)
    for loss in (0.0, 0.1):
        routers: dict[str, MakeChooser] = {
            ORACLE: EVERYBODY[ORACLE],
            "sluice ttft, no events": EVERYBODY[OURS],
            "sluice ttft, replay": sluice_with_events(loss),
            "sluice ttft, no replay": sluice_with_events(loss, replay=False),
            "sluice prefix_exact, replay": sluice_with_events(loss, policy="prefix_exact"),
            "sluice prefix_exact, no replay": sluice_with_events(loss, replay=False, policy="prefix_exact"),
            "Dynamo": partial(rivals.Dynamo, loss=loss),
            "LMetric": partial(rivals.LMetric, loss=loss),
        }
        yield from _rows("lost_events", f"{loss:.0%} lost", requests, Setup(), routers)


def think_times(trace: Trace) -> Iterator[Row]:
    """A turn arrives when its user has read the answer to the last one, instead of at the recorded time."""
    setup = Setup()
    requests = trace.requests(SHORT)
    for speedup in (1.0, 1.15):
        faster = [replace(r, at=r.at / speedup) for r in requests]
        linked = with_think_times(faster, setup.engine.itl_s)
        yield from _rows("think_times", f"{speedup:g}x arrivals", linked, setup, _short_list())


def shared_prefix(_: Trace) -> Iterator[Row]:
    """150 groups of 5 users at rising load over 8 engines whose caches hold 73 % of all prompts."""
    engines = 8
    blocks = int(0.73 * 150 * (SYSTEM_BLOCKS + 5 * QUESTION_BLOCKS) / engines)
    setup = Setup(engines=engines, engine=EngineSettings(cache_blocks=blocks))
    for rate in (10, 20, 30, 40, 50, 60):
        requests = shared_prefixes(rate, 60.0, seed=rate)
        yield from _rows("shared_prefix", f"{rate} requests/s", requests, setup, _short_list())


def gateways(trace: Trace) -> Iterator[Row]:
    """Several gateway processes that know their own requests only, with and without the engines' queues."""
    requests = trace.requests(SHORT)
    routers = {
        ORACLE: EVERYBODY[ORACLE],
        "1 gateway": EVERYBODY[OURS],
        "2 gateways, own requests only": replicas(2),
        "2 gateways, queues polled every second": replicas(2, poll_s=1.0),
        "2 gateways, queues polled every 5 s": replicas(2, poll_s=5.0),
        "2 gateways, news after 10 ms": replicas(2, news_s=0.01),
        "2 gateways, news after 1 s": replicas(2, news_s=1.0),
        "4 gateways, own requests only": replicas(4),
        "4 gateways, queues polled every second": replicas(4, poll_s=1.0),
        "4 gateways, news after 10 ms": replicas(4, news_s=0.01),
        "4 gateways, news after 1 s": replicas(4, news_s=1.0),
        "2 gateways, least load, own requests only": replicas(2, policy="least_load"),
    }
    yield from _rows("gateways", "bursts every 3 s, as recorded", requests, Setup(), routers)
    yield from _rows("gateways", "arrivals spread over the 3 s", spread(requests), Setup(), routers)


SCENARIOS: Mapping[str, Callable[[Trace], Iterator[Row]]] = {
    "yardstick": yardstick,
    "cache_sizes": cache_sizes,
    "fleet_sizes": fleet_sizes,
    "half_speed": half_speed,
    "noise": noise,
    "restart": restart,
    "lost_events": lost_events,
    "think_times": think_times,
    "shared_prefix": shared_prefix,
    "gateways": gateways,
}
