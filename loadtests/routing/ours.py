"""Sluice's own Router under the simulator: the class that the gateway runs, fed with bytes and times."""

from __future__ import annotations

from collections import deque
from random import Random

import msgspec

from engine_adapter.api import WorkerInfo
from gateway.routing.assignment import RouteRequest
from gateway.routing.fleet import Fleet
from gateway.routing.kv_sequence import Verdict
from gateway.routing.kv_source import EventSource
from gateway.routing.peers import PeerExchange
from gateway.routing.routed import RoutedRequest
from gateway.routing.router import Router
from gateway.routing.settings import RoutingSettings
from loadtests.routing.engine import Flight, SimEngine
from loadtests.routing.workload import BLOCK_TOKENS, Texts

MODEL = "bench"


class Sluice:
    """One gateway process. `usage`: the engines report token counts. `sized`: they tell their cache size."""

    def __init__(
        self,
        engines: list[SimEngine],
        settings: RoutingSettings,
        texts: Texts,
        usage: bool = True,
        sized: bool = True,
    ) -> None:
        self._texts = texts
        self._usage = usage
        self._infos = [WorkerInfo(id=str(i), url=f"http://127.0.0.1/{i}") for i in range(len(engines))]
        self.fleet = Fleet()
        self.router = Router(self.fleet, settings)
        self.fleet.update(self._infos)
        for worker in self.fleet:
            worker.models, worker.health = (MODEL,), "ready"
            if sized:
                blocks = engines[int(worker.id)].settings.cache_blocks
                self.router.know_cache_size(worker.id, blocks * BLOCK_TOKENS)
        self._running: dict[Flight, RoutedRequest] = {}

    def choose(self, flight: Flight, now: float, exclude: frozenset[int]) -> int:
        request = RouteRequest(MODEL, b"", self._texts.body(flight.request.blocks))
        routed = self.router.assign(request, now, frozenset(map(str, exclude)))
        self._running[flight] = routed
        return int(routed.worker.id)

    def first_token(self, flight: Flight, now: float) -> None:
        self._running[flight].first_byte(now)

    def ended(self, flight: Flight, now: float, ok: bool) -> None:
        routed = self._running.pop(flight)
        if self._usage and ok:
            blocks = len(flight.request.blocks)
            routed.finish(
                now, "ok", blocks * BLOCK_TOKENS, flight.hit * BLOCK_TOKENS, flight.request.output_tokens
            )
        else:
            routed.finish(now, "ok" if ok else "failed")

    def stored(self, engine: int, flight: Flight, stored: list[int], evicted: list[int], now: float) -> None:
        """Not listened to."""

    def came_up(self, engine: int, now: float) -> None:
        old = self._infos[engine]
        self._infos[engine] = WorkerInfo(id=old.id, url=old.url, generation=old.generation + 1)
        self.fleet.update(self._infos)
        self.fleet.workers[old.id].health = "ready"

    def went_down(self, engine: int, now: float) -> None:
        self.fleet.workers[str(engine)].health = "unready"


class SluiceWithEvents(Sluice):
    """The same, following the engines' KV events through `EventSource`, as the ZMQ subscription does.

    A share `loss` of the batches does not arrive; `replay` asks for them again, as of vLLM's endpoint for it.
    """

    def __init__(
        self,
        engines: list[SimEngine],
        settings: RoutingSettings,
        texts: Texts,
        loss: float = 0.0,
        replay: bool = True,
    ) -> None:
        super().__init__(engines, settings, texts)
        self._loss = loss
        self._replay = replay
        self._random = Random(0)
        self._published: list[list[bytes]] = [[] for _ in engines]
        self.sources = [
            EventSource(state, f"tcp://127.0.0.1:{n}", 1_000_000)
            for n, state in enumerate(self.router.states())
        ]
        for source in self.sources:
            source.caught_up()

    def stored(self, engine: int, flight: Flight, stored: list[int], evicted: list[int], now: float) -> None:
        blocks = flight.request.blocks
        events: list[dict[str, object]] = []
        if stored:
            before = blocks.index(stored[0])
            events.append(
                {
                    "type": "BlockStored",
                    "block_hashes": blocks[before:],
                    "parent_block_hash": blocks[before - 1] if before else None,
                    "block_size": BLOCK_TOKENS,
                    "medium": "GPU",
                }
            )
        if evicted:
            events.append({"type": "BlockRemoved", "block_hashes": evicted, "medium": "GPU"})
        if not events:
            return
        published = self._published[engine]
        published.append(msgspec.msgpack.encode([now, events, 0]))
        if self._random.random() >= self._loss:
            self._receive(self.sources[engine], published, now)

    def _receive(self, source: EventSource, published: list[bytes], now: float) -> None:
        latest = len(published) - 1
        verdict = source.live(latest, published[latest])
        if verdict is Verdict.GAP and self._replay:
            for number in range(source.sequence.expected, latest):
                source.offer(number)
                self._apply(source, published[number], now)
            verdict = source.offer(latest)
        elif verdict is Verdict.GAP:
            source.give_up_before(latest)
            verdict = source.offer(latest)
        if verdict is Verdict.APPLY:
            self._apply(source, published[latest], now)

    @staticmethod
    def _apply(source: EventSource, payload: bytes, now: float) -> None:
        for part in source.apply(payload):
            source.apply_slice(part, now)

    def came_up(self, engine: int, now: float) -> None:
        super().came_up(engine, now)
        self._published[engine].clear()
        self.sources[engine].restart()


class Replicas:
    """Several gateway processes over the same engines, each with its own router; requests take turns.

    `poll_s`: how often each reads the engines' own queue lengths (`/metrics`); None: never.
    `news_s`: how late each hears what the others have routed; None: never.
    """

    def __init__(
        self,
        engines: list[SimEngine],
        replicas: list[Sluice],
        poll_s: float | None = None,
        news_s: float | None = None,
    ) -> None:
        self._engines = engines
        self._replicas = replicas
        self._poll_s = poll_s
        self._polled = float("-inf")
        self._of: dict[Flight, Sluice] = {}
        self._news_s = news_s
        self._post: deque[tuple[float, bytes]] = deque()
        self._exchanges: list[PeerExchange] = []
        if news_s is not None:
            for number, replica in enumerate(replicas):
                exchange = PeerExchange(str(number), replica.router.states)
                replica.router.peers = exchange
                self._exchanges.append(exchange)

    def _send(self, now: float) -> None:
        if self._news_s is not None:
            for exchange in self._exchanges:
                while (message := exchange.drain()) is not None:
                    self._post.append((now + self._news_s, message))

    def _deliver(self, now: float) -> None:
        while self._post and self._post[0][0] <= now:
            arrived, message = self._post.popleft()
            for exchange in self._exchanges:
                exchange.receive(message, arrived)

    def choose(self, flight: Flight, now: float, exclude: frozenset[int]) -> int:
        if self._poll_s is not None and now - self._polled >= self._poll_s:
            self._polled = now
            for number, engine in enumerate(self._engines):
                waiting = len(engine.waiting) + (engine.serving is not None)
                for replica in self._replicas:
                    replica.router.observe_load(str(number), waiting, now)
        self._deliver(now)
        replica = self._of[flight] = self._replicas[flight.index % len(self._replicas)]
        chosen = replica.choose(flight, now, exclude)
        self._send(now)
        return chosen

    def first_token(self, flight: Flight, now: float) -> None:
        self._deliver(now)
        self._of[flight].first_token(flight, now)
        self._send(now)

    def ended(self, flight: Flight, now: float, ok: bool) -> None:
        self._deliver(now)
        self._of.pop(flight).ended(flight, now, ok)
        self._send(now)

    def stored(self, engine: int, flight: Flight, stored: list[int], evicted: list[int], now: float) -> None:
        for replica in self._replicas:
            replica.stored(engine, flight, stored, evicted, now)

    def went_down(self, engine: int, now: float) -> None:
        for replica in self._replicas:
            replica.went_down(engine, now)

    def came_up(self, engine: int, now: float) -> None:
        for replica in self._replicas:
            replica.came_up(engine, now)
