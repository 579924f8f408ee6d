"""The simulator that figures in the documentation come from."""

from __future__ import annotations

from collections import OrderedDict
from random import Random

import pytest

from loadtests.routing import rivals
from loadtests.routing.engine import BlockCache, EngineSettings, Flight, SimEngine
from loadtests.routing.scenarios import EVERYBODY, replicas, sluice, sluice_with_events
from loadtests.routing.simulate import Chooser, Setup, simulate
from loadtests.routing.workload import BLOCK_TOKENS, SimRequest, shared_prefixes, with_think_times


def requests(count: int = 300, seed: int = 1) -> list[SimRequest]:
    """Conversations of growing prompts behind one common first block, a new turn every 50 ms."""
    random = Random(seed)
    turns = [0] * 30
    made = []
    for n in range(count):
        user = random.randrange(30)
        turns[user] += 1
        blocks = [0, *range(1000 * (user + 1), 1000 * (user + 1) + 5 * turns[user])]
        made.append(SimRequest(n * 0.05, blocks, 20))
    return made


def test_round_robin_is_what_arithmetic_says() -> None:
    """The yardstick's own closed form: queue, then the uncached blocks, at least one."""
    engines = [(OrderedDict[int, None](), [0.0]) for _ in range(4)]
    expected = []
    for n, request in enumerate(requests()):
        cache, free = engines[(n + 1) % 4]
        hit = 0
        while hit < len(request.blocks) and request.blocks[hit] in cache:
            hit += 1
        free[0] = max(free[0], request.at) + max(1, len(request.blocks) - hit) * BLOCK_TOKENS / 12_000
        for block in request.blocks:
            cache[block] = None
            cache.move_to_end(block)
        while len(cache) > 300:
            cache.popitem(last=False)
        expected.append(free[0] - request.at)
    setup = Setup(engine=EngineSettings(cache_blocks=300))
    result = simulate(requests(), setup, rivals.RoundRobin)
    assert result.mean == pytest.approx(sum(expected) / len(expected))
    assert result.success == 1.0


def test_evictions_go_head_first_as_the_yardstick_or_tail_first_as_vllm() -> None:
    head = BlockCache(EngineSettings(cache_blocks=3))
    tail = BlockCache(EngineSettings(cache_blocks=3, eviction="tail_first"))
    for cache in (head, tail):
        cache.touch([1, 2, 3])
    assert head.touch([9]) == ([9], [1])
    assert tail.touch([9]) == ([9], [3])


@pytest.mark.parametrize("name", sorted(EVERYBODY))
def test_every_router_serves_everything_and_comes_back_to_zero(name: str) -> None:
    made = []

    def make(engines):
        made.append(EVERYBODY[name](engines))
        return made[0]

    result = simulate(requests(), Setup(patience_s=1e9), make)
    assert result.success == 1.0
    if isinstance(made[0], rivals.Rival):
        assert made[0].load == [0, 0, 0, 0]
    else:
        assert [w.in_flight for w in made[0].fleet] == [0, 0, 0, 0]


def test_prediction_beats_round_robin_and_comes_near_the_oracle() -> None:
    oracle = simulate(requests(), Setup(), rivals.GreedyOracle)
    ours = simulate(requests(), Setup(), sluice())
    blind = simulate(requests(), Setup(), rivals.RoundRobin)
    assert ours.mean < 1.2 * oracle.mean < 0.8 * blind.mean


def test_a_restart_fails_what_streams_and_reroutes_what_waits() -> None:
    result = simulate(requests(), Setup(restart=(0, 5.0, 3.0)), sluice())
    assert 0.9 < result.success < 1.0


def test_lost_events_do_not_stop_routing() -> None:
    for replay in (True, False):
        result = simulate(requests(), Setup(), sluice_with_events(0.1, replay, policy="prefix_exact"))
        assert result.success == 1.0
        assert result.hit > 0.3


def test_news_of_peers_restore_the_hits_that_two_gateways_lose() -> None:
    alone = simulate(requests(), Setup(), replicas(2))
    told = simulate(requests(), Setup(), replicas(2, news_s=0.01))
    assert told.hit > alone.hit + 0.05


def test_think_times_chain_the_turns_of_a_conversation() -> None:
    first = SimRequest(0.0, [0, 1, 2], 100)
    second = SimRequest(10.0, [0, 1, 2, 3], 100)
    other = SimRequest(11.0, [0, 7, 8], 100)
    linked = with_think_times([first, second, other], itl=0.02)
    assert (linked[1].parent, linked[1].think) == (0, pytest.approx(8.0))
    assert linked[0].children == [1]
    assert linked[2].parent is None


def test_shared_prefixes_recur() -> None:
    made = shared_prefixes(50.0, 20.0, seed=1, groups=10)
    assert len({r.blocks[0] for r in made}) == 10
    assert len({tuple(r.blocks) for r in made}) <= 50


class Watched:
    """A router whose decisions a test looks at: which engine, when, and how many wait there then."""

    def __init__(self, chooser: Chooser, engines: list[SimEngine]) -> None:
        self._chooser = chooser
        self._engines = engines
        self.decisions: list[tuple[float, int, int]] = []

    def choose(self, flight: Flight, now: float, exclude: frozenset[int]) -> int:
        engine = self._chooser.choose(flight, now, exclude)
        self.decisions.append((now, engine, len(self._engines[engine].waiting)))
        return engine

    def __getattr__(self, name: str) -> object:
        return getattr(self._chooser, name)


def test_an_engine_that_joins_takes_its_share_without_a_stampede() -> None:
    """Three engines serve; after ten seconds a fourth is there, with an empty cache and an empty queue."""
    joins = 10.0
    watched: list[Watched] = []

    def make(engines: list[SimEngine]) -> Chooser:
        watched.append(Watched(sluice()(engines), engines))
        return watched[0]  # type: ignore[return-value]

    simulate(requests(600), Setup(restart=(0, -1.0, 1.0 + joins)), make)
    decisions = watched[0].decisions
    assert not [d for d in decisions if d[0] < joins and d[1] == 0]
    first = [d for d in decisions if joins <= d[0] < joins + 2.0]
    assert 0.05 < sum(engine == 0 for _, engine, _ in first) / len(first) < 0.6, "some, and not all"
    later = [d for d in decisions if d[0] >= joins + 2.0]
    assert 0.15 < sum(engine == 0 for _, engine, _ in later) / len(later) < 0.35, "its quarter"
    queue = {number: max(w for _, e, w in [*first, *later] if e == number) for number in range(4)}
    assert queue[0] <= 2 + max(queue[1], queue[2], queue[3])
