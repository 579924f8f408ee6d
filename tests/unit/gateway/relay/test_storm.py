"""Whatever happens in whatever order, every place, connection and counter is given back exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine_adapter.api import WorkerInfo
from gateway.relay.exchange import Exchange
from gateway.relay.framing import LAST_CHUNK
from gateway.relay.settings import (
    Admission,
    HealthChecks,
    Hedging,
    RelaySettings,
    Retries,
    Timeouts,
)
from gateway.relay.states import DONE, QUEUED
from gateway.relay.upstream import UpstreamConnection

from .conftest import (
    CHAT,
    DONE_EVENT,
    EVENT,
    STREAM_HEAD,
    MemoryClient,
    Opening,
    Surroundings,
    chunked,
    surroundings,
)

SETTINGS = RelaySettings(
    timeouts=Timeouts(connect=2, queue=4, first_byte=5, silence=5, stalled_client=5),
    admission=Admission(per_worker=2, queue=3),
    retries=Retries(budget=0.5, budget_floor=2),
    hedging=Hedging(enabled=True, min_seconds=0.5),
    health=HealthChecks(breaker_failures=2, breaker_open_seconds=2),
    ping_seconds=1.0,
)
DOCUMENT = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}"
PIECES = {
    "half a head": STREAM_HEAD[:25],
    "head": STREAM_HEAD,
    "event": chunked(EVENT),
    "half a chunk": b"50\r\ndata: x",
    "end": chunked(DONE_EVENT) + LAST_CHUNK,
    "truncation": LAST_CHUNK,
    "document": DOCUMENT,
    "half a document": DOCUMENT[:-1],
    "close-delimited": b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + EVENT,
    "refusal": REFUSAL,
    "not found": REFUSAL.replace(b"503 Service Unavailable", b"404 Not Found"),
    "nonsense": b"\x00\xff\r\n\r\n",
}


async def _in_memory() -> Surroundings:
    return surroundings(asyncio.get_running_loop(), SETTINGS, workers=3)


class Storm(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.s = asyncio.run(_in_memory())
        for _ in range(20):
            assert self.s.relay.hedge_delay is not None
            self.s.relay.hedge_delay.observe(0.1)
        self.calls: list[tuple[Exchange, MemoryClient]] = []

    def teardown(self) -> None:
        for exchange, _ in self.calls:
            exchange.client_gone()
        self.s.assert_quiet()
        over = [client for _, client in self.calls]
        assert all(client.answers <= 1 for client in over)
        assert len(self.s.records) == len(self.calls)

    @property
    def open_calls(self) -> list[tuple[Exchange, MemoryClient]]:
        return [(e, c) for e, c in self.calls if e.state is not DONE]

    @property
    def openings(self) -> list[Opening]:
        return [o for o in self.s.pool.openings if o.pending]

    @property
    def connections(self) -> list[UpstreamConnection]:
        return [
            c
            for c in self.s.pool.connections
            if not (c.transport.aborted or c.transport.closed)  # type: ignore[attr-defined]
        ]

    @rule(priority=st.integers(-1, 1), http11=st.booleans())
    def call(self, priority: int, http11: bool) -> None:
        self.calls.append(
            self.s.call(
                CHAT,
                headers=[(b"x-sluice-priority", b"%d" % priority)],
                client=MemoryClient(http11=http11),
            )
        )

    @precondition(lambda self: self.openings)
    @rule(data=st.data(), succeeds=st.sampled_from([True, True, True, False]))
    def open(self, data: st.DataObject, succeeds: bool) -> None:
        opening = data.draw(st.sampled_from(self.openings))
        if succeeds:
            opening.succeed()
        else:
            opening.fail()

    @precondition(lambda self: self.connections)
    @rule(data=st.data(), pieces=st.lists(st.sampled_from(sorted(PIECES)), min_size=1, max_size=3))
    def worker_sends(self, data: st.DataObject, pieces: list[str]) -> None:
        connection = data.draw(st.sampled_from(self.connections))
        connection.data_received(b"".join(PIECES[p] for p in pieces))

    @precondition(lambda self: self.connections)
    @rule(data=st.data())
    def worker_answers_well(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(self.connections))
        for piece in ("head", "event", "event", "end"):
            if connection in self.connections:
                connection.data_received(PIECES[piece])

    @precondition(lambda self: self.connections)
    @rule(data=st.data(), politely=st.booleans())
    def worker_leaves(self, data: st.DataObject, politely: bool) -> None:
        connection = data.draw(st.sampled_from(self.connections))
        if politely:
            connection.eof_received()
        connection.connection_lost(None if politely else ConnectionResetError())
        connection.transport.aborted = True  # type: ignore[attr-defined]

    @precondition(lambda self: self.open_calls)
    @rule(data=st.data())
    def client_leaves(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.open_calls))[0].client_gone()

    @precondition(lambda self: self.open_calls)
    @rule(data=st.data(), pause=st.booleans())
    def client_reads(self, data: st.DataObject, pause: bool) -> None:
        exchange, _ = data.draw(st.sampled_from(self.open_calls))
        if pause:
            exchange.client_paused()
        else:
            exchange.client_resumed()

    @rule(seconds=st.sampled_from([0.2, 0.6, 1.1, 3.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.s.sweep(seconds)

    @rule(number=st.integers(0, 2), health=st.sampled_from(["ready", "ready", "unready", "draining"]))
    def health_changes(self, number: int, health: str) -> None:
        if (worker := self.s.fleet.workers.get(f"w{number}")) is not None:
            worker.health = health  # type: ignore[assignment]

    @rule(numbers=st.sets(st.integers(0, 2)), generation=st.integers(0, 2))
    def membership_changes(self, numbers: Iterable[int], generation: int) -> None:
        self.s.fleet.update(
            [
                WorkerInfo(f"w{n}", f"http://127.0.0.1:{9000 + n}", "m", generation=generation)
                for n in sorted(numbers)
            ]
        )
        for worker in self.s.fleet:
            if worker.health == "unknown":
                worker.health = "ready"

    @invariant()
    def counters_agree(self) -> None:
        relay = self.s.relay
        live = self.open_calls
        assert relay.accounting.active == len(relay.exchanges) == len(live)
        assert len(relay.waiting) == sum(e.state is QUEUED for e, _ in live) <= 3
        attempts = [a for e, _ in live for a in (e.attempt, e.hedge) if a is not None and a.open]
        unfinished = [p for p in self.s.router.placed if p.outcome is None]
        assert len(unfinished) == len(attempts)
        for worker in self.s.fleet:
            mine = sum(p.worker is worker for p in unfinished)
            assert worker.in_flight == mine <= worker.max_in_flight
        owned = [c for c in self.s.pool.connections if c.receiver is not None]
        assert len(owned) == sum(a.connection is not None for a in attempts)
        assert len(self.openings) == sum(a._opening is not None for a in attempts)

    @invariant()
    def ends_are_told(self) -> None:
        for exchange, client in self.calls:
            assert client.answers <= 1
            if client.is_over:
                assert exchange.state is DONE


TestStorm = Storm.TestCase
TestStorm.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
