"""Other routers' rules, re-expressed over trace blocks with their launchers' defaults, and the greedy oracle.

Each is written from the rule as its project documents it; what is exact there (characters, 16-token blocks)
is rounded to the trace's 512-token blocks here. Load is the router's own count of requests unless said
otherwise, and known instantly, which favours the ones that poll.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from random import Random

from loadtests.routing.engine import Flight, SimEngine
from loadtests.routing.workload import BLOCK_TOKENS


class Rival:
    """Shared bookkeeping: requests in flight per engine, and which engines are up."""

    def __init__(self, engines: list[SimEngine]) -> None:
        self.engines = engines
        self.load = [0] * len(engines)
        self.up = set(range(len(engines)))
        self.random = Random(0)

    def choose(self, flight: Flight, now: float, exclude: frozenset[int]) -> int:
        allowed = sorted(self.up - exclude)
        engine = self.pick(flight.request.blocks, allowed, now)
        self.load[engine] += 1
        self.sent(engine, flight, now)
        return engine

    def pick(self, blocks: list[int], allowed: list[int], now: float) -> int:
        """The rule."""
        raise NotImplementedError

    def sent(self, engine: int, flight: Flight, now: float) -> None:
        """After the choice."""

    def first_token(self, flight: Flight, now: float) -> None:
        """The prefill is over."""

    def ended(self, flight: Flight, now: float, ok: bool) -> None:
        self.load[flight.engine] -= 1

    def stored(self, engine: int, flight: Flight, stored: list[int], evicted: list[int], now: float) -> None:
        """KV events."""

    def went_down(self, engine: int, now: float) -> None:
        self.up.discard(engine)

    def came_up(self, engine: int, now: float) -> None:
        self.up.add(engine)

    def least(self, allowed: list[int]) -> int:
        """Fewest requests, any of them."""
        fewest = min(self.load[e] for e in allowed)
        return self.random.choice([e for e in allowed if self.load[e] == fewest])


class RoundRobin(Rival):
    turn = 0

    def pick(self, blocks: list[int], allowed: list[int], now: float) -> int:
        self.turn += 1
        return allowed[self.turn % len(allowed)]


class RandomChoice(Rival):
    def pick(self, blocks: list[int], allowed: list[int], now: float) -> int:
        return self.random.choice(allowed)


class PowerOfTwo(Rival):
    def pick(self, blocks: list[int], allowed: list[int], now: float) -> int:
        return self.least(self.random.sample(allowed, min(2, len(allowed))))


class LeastLoad(Rival):
    def pick(self, blocks: list[int], allowed: list[int], now: float) -> int:
        return self.least(allowed)


class RoutedBlocks:
    """Which engines were sent which block, LRU-bounded per engine (in blocks)."""

    def __init__(self, engines: int, capacity: int | None) -> None:
        self.known: list[OrderedDict[int, float]] = [OrderedDict() for _ in range(engines)]
        self.capacity = capacity

    def depth(self, engine: int, blocks: list[int]) -> int:
        known = self.known[engine]
        for count, block in enumerate(blocks):
            if block not in known:
                return count
        return len(blocks)

    def touch(self, engine: int, blocks: list[int], now: float) -> None:
        known = self.known[engine]
        for block in reversed(blocks):
            known[block] = now
            known.move_to_end(block)
        if self.capacity is not None:
            self.shrink(engine, self.capacity)

    def shrink(self, engine: int, capacity: int) -> None:
        known = self.known[engine]
        while len(known) > capacity:
            known.popitem(last=False)


class SglangCacheAware(Rival):
    """sglang-router `cache_aware` at launcher defaults: 0.3 / 64 / 1.5, and LRU eviction every 60 s to 67.1M
    characters, 4 a token. An engine that restarts keeps its tree. Below the threshold the present design
    takes the shortest queue, the first one took the smallest tree (`SglangSmallestTree`)."""

    def __init__(self, engines: list[SimEngine]) -> None:
        super().__init__(engines)
        self.tree = RoutedBlocks(len(engines), None)
        self.next_eviction = 60.0

    def pick(self, blocks: list[int], allowed: list[int], now: float) -> int:
        if now >= self.next_eviction:
            self.next_eviction = now + 60.0
            for engine in range(len(self.engines)):
                self.tree.shrink(engine, 67_108_864 // (4 * BLOCK_TOKENS))
        loads = [self.load[e] for e in allowed]
        if max(loads) - min(loads) > 64 and max(loads) > 1.5 * min(loads):
            return self.least(allowed)
        depths = {e: self.tree.depth(e, blocks) for e in allowed}
        deepest = max(allowed, key=lambda e: depths[e])
        if depths[deepest] > 0.3 * len(blocks):
            return deepest
        return self.without_match(allowed)

    def without_match(self, allowed: list[int]) -> int:
        return self.least(allowed)

    def sent(self, engine: int, flight: Flight, now: float) -> None:
        self.tree.touch(engine, flight.request.blocks, now)


class SglangSmallestTree(SglangCacheAware):
    """The same as it was before sglang #14532."""

    def without_match(self, allowed: list[int]) -> int:
        return min(allowed, key=lambda e: len(self.tree.known[e]))


class StackPrefixAware(Rival):
    """vLLM production-stack `prefixaware`: any engine of the deepest match, no eviction, no load."""

    def __init__(self, engines: list[SimEngine]) -> None:
        super().__init__(engines)
        self.tree = RoutedBlocks(len(engines), None)

    def pick(self, blocks: list[int], allowed: list[int], now: float) -> int:
        depths = {e: self.tree.depth(e, blocks) for e in allowed}
        deepest = max(depths.values())
        return self.random.choice([e for e in allowed if depths[e] == deepest])

    def sent(self, engine: int, flight: Flight, now: float) -> None:
        self.tree.touch(engine, flight.request.blocks, now)


class StackLoadAware(StackPrefixAware):
    """vLLM production-stack `loadaware`: matched share less beta (1.0) times the relative excess load."""

    def pick(self, blocks: list[int], allowed: list[int], now: float) -> int:
        mean = sum(self.load[e] for e in allowed) / len(allowed)

        def score(engine: int) -> float:
            matched = self.tree.depth(engine, blocks) / max(1, len(blocks))
            return matched - (self.load[engine] - mean) / max(1.0, mean)

        return max(allowed, key=score)


class LlmD(Rival):
    """llm-d's approximate prefix / queue / KV scorers at 3/2/2: an LRU of 31,250 16-token blocks per engine,
    the first 256 of a prompt looked at, engine metrics up to 200 ms old."""

    LOOKED_AT = 256 * 16 // BLOCK_TOKENS

    def __init__(self, engines: list[SimEngine]) -> None:
        super().__init__(engines)
        self.index = RoutedBlocks(len(engines), 31_250 * 16 // BLOCK_TOKENS)
        self.scraped = -1.0
        self.queue = [0] * len(engines)
        self.used = [0.0] * len(engines)

    def pick(self, blocks: list[int], allowed: list[int], now: float) -> int:
        if now - self.scraped >= 0.2:
            self.scraped = now
            for number, engine in enumerate(self.engines):
                self.queue[number] = len(engine.waiting)
                running = [*engine.decoding, *([engine.serving] if engine.serving else [])]
                blocks_used = sum(len(f.request.blocks) for f in running)
                self.used[number] = min(1.0, blocks_used / engine.settings.cache_blocks)
        seen = blocks[: self.LOOKED_AT]
        most, least = max(self.queue[e] for e in allowed), min(self.queue[e] for e in allowed)

        def score(engine: int) -> float:
            prefix = self.index.depth(engine, seen) / max(1, len(seen))
            queue = (most - self.queue[engine]) / (most - least) if most > least else 1.0
            return 3 * prefix + 2 * queue + 2 * (1 - self.used[engine])

        best = max(map(score, allowed))
        return self.random.choice([e for e in allowed if score(e) == best])

    def sent(self, engine: int, flight: Flight, now: float) -> None:
        self.index.touch(engine, flight.request.blocks[: self.LOOKED_AT], now)


class ExactRival(Rival):
    """For rules that follow KV events and count their own prefill queue. `loss` of the events never arrive,
    and are not asked for again."""

    def __init__(self, engines: list[SimEngine], loss: float = 0.0) -> None:
        super().__init__(engines)
        self.known: list[set[int]] = [set() for _ in engines]
        self.loss = loss
        self.prefill = [0] * len(engines)
        self._queued: dict[Flight, int] = {}

    def missing(self, engine: int, blocks: list[int]) -> int:
        known = self.known[engine]
        for count, block in enumerate(blocks):
            if block not in known:
                return len(blocks) - count
        return 0

    def sent(self, engine: int, flight: Flight, now: float) -> None:
        self._queued[flight] = self.missing(engine, flight.request.blocks)
        self.prefill[engine] += self._queued[flight]

    def first_token(self, flight: Flight, now: float) -> None:
        self.prefill[flight.engine] -= self._queued.pop(flight)

    def ended(self, flight: Flight, now: float, ok: bool) -> None:
        super().ended(flight, now, ok)
        self.prefill[flight.engine] -= self._queued.pop(flight, 0)

    def stored(self, engine: int, flight: Flight, stored: list[int], evicted: list[int], now: float) -> None:
        if self.random.random() >= self.loss:
            self.known[engine].update(stored)
            self.known[engine].difference_update(evicted)

    def came_up(self, engine: int, now: float) -> None:
        super().came_up(engine, now)
        self.known[engine].clear()


class Dynamo(ExactRival):
    """NVIDIA Dynamo's KV router: prefill blocks after the overlap credit, plus decode blocks. What running
    requests share counts once."""

    def __init__(self, engines: list[SimEngine], loss: float = 0.0) -> None:
        super().__init__(engines, loss)
        self.active: list[Counter[int]] = [Counter() for _ in engines]

    def pick(self, blocks: list[int], allowed: list[int], now: float) -> int:
        def cost(engine: int) -> float:
            active = self.active[engine]
            decode = len(active) + sum(block not in active for block in blocks)
            return self.prefill[engine] + self.missing(engine, blocks) + decode

        return min(allowed, key=cost)

    def sent(self, engine: int, flight: Flight, now: float) -> None:
        super().sent(engine, flight, now)
        self.active[engine].update(flight.request.blocks)

    def ended(self, flight: Flight, now: float, ok: bool) -> None:
        super().ended(flight, now, ok)
        active = self.active[flight.engine]
        active.subtract(flight.request.blocks)
        for block in flight.request.blocks:
            if not active[block]:
                del active[block]


class LMetric(ExactRival):
    """Prefill to do times batch size, no parameter."""

    def pick(self, blocks: list[int], allowed: list[int], now: float) -> int:
        return min(
            allowed,
            key=lambda e: (self.prefill[e] + max(1, self.missing(e, blocks))) * (self.load[e] + 1),
        )


class Preble(ExactRival):
    """E2: exploit where more is cached than missing; otherwise the engine with least prefill work in the last
    three minutes."""

    def __init__(self, engines: list[SimEngine]) -> None:
        super().__init__(engines)
        self.window: list[OrderedDict[int, tuple[float, int]]] = [OrderedDict() for _ in engines]
        self.recent = [0] * len(engines)

    def pick(self, blocks: list[int], allowed: list[int], now: float) -> int:
        for engine in allowed:
            window = self.window[engine]
            while window and next(iter(window.values()))[0] < now - 180.0:
                self.recent[engine] -= window.popitem(last=False)[1][1]
        best = min(allowed, key=lambda e: (self.missing(e, blocks), self.recent[e]))
        if self.missing(best, blocks) < len(blocks) / 2:
            return best
        return min(allowed, key=lambda e: self.recent[e] + self.missing(e, blocks))

    def sent(self, engine: int, flight: Flight, now: float) -> None:
        work = self.missing(engine, flight.request.blocks)
        self.window[engine][flight.index] = (now, work)
        self.recent[engine] += work
        super().sent(engine, flight, now)


class GreedyOracle(Rival):
    """Knows every cache, queue and rate exactly and minimises each request's own time to first token."""

    def pick(self, blocks: list[int], allowed: list[int], now: float) -> int:
        return min(allowed, key=lambda e: self.ttft(e, blocks, now))

    def ttft(self, number: int, blocks: list[int], now: float) -> float:
        """Counts what the requests ahead will have put into the cache, not what they will have evicted."""
        engine = self.engines[number]
        seconds, coming = 0.0, set[int]()
        if engine.serving is not None:
            seconds = max(0.0, engine.busy_until - now)
            coming.update(engine.serving.request.blocks)
        for flight in engine.waiting:
            ahead = flight.request.blocks
            seconds += engine.seconds(len(ahead), self.cached(engine, ahead, coming))
            coming.update(ahead)
        return seconds + engine.seconds(len(blocks), self.cached(engine, blocks, coming))

    @staticmethod
    def cached(engine: SimEngine, blocks: list[int], coming: set[int]) -> int:
        count = engine.cache.match(blocks)
        while count < len(blocks) and blocks[count] in coming:
            count += 1
        return count
