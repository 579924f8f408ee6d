"""An exchange's whole surroundings in memory: client, worker connections, router and clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from engine_adapter.api import WorkerInfo
from gateway.relay.accounting import AccessRecord, Accounting
from gateway.relay.breaker import Breakers
from gateway.relay.envelope import Envelope, read_wishes
from gateway.relay.exchange import Exchange
from gateway.relay.fields import sent_on_lines
from gateway.relay.pool import Opened, Pool
from gateway.relay.relay import Observers, Relay
from gateway.relay.settings import RelaySettings
from gateway.relay.states import DONE
from gateway.relay.upstream import UpstreamConnection
from gateway.routing.assignment import NoWorkerError, Outcome, RouteRequest
from gateway.routing.fleet import Fleet, Worker

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}'
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
EVENT = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n\n'
DONE_EVENT = b"data: [DONE]\n\n"


def chunked(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


class MemoryTransport:
    """What a transport was told. Nothing is called back by itself."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed = self.aborted = self.paused = self.ended = False

    def write(self, data: bytes) -> None:
        assert not self.is_closing(), "write on a closed transport"
        self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_reading(self) -> bool:
        return not self.paused

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 4711) if name == "peername" else default


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


class MemoryClient:
    """Implements `exchange.Client`."""

    peer = "127.0.0.1"

    def __init__(self, *, http11: bool = True) -> None:
        self.http11 = http11
        self.keep_alive = http11
        self.written = bytearray()
        self.answers = 0
        self.kept_alive: bool | None = None
        self.aborted = False

    def write(self, data: bytes) -> None:
        assert not self.is_over, "bytes after the end of an answer"
        self.written += data

    def answered(self, keep_alive: bool) -> None:
        self.answers += 1
        self.kept_alive = keep_alive

    def abort(self) -> None:
        self.aborted = True

    @property
    def is_over(self) -> bool:
        return self.answers > 0 or self.aborted

    @property
    def status(self) -> int:
        return int(self.written.split(b" ", 2)[1]) if self.written else 0

    @property
    def body(self) -> bytes:
        return bytes(self.written.partition(b"\r\n\r\n")[2])


@dataclass
class Placed:
    """An assignment that knows whether it was used as its contract says."""

    worker: Worker
    request: RouteRequest
    reason: str = "test"
    first_bytes: int = 0
    outcome: Outcome | None = None
    tokens: tuple[int, int, int] | None = None

    def first_byte(self, now: float) -> None:
        assert self.outcome is None
        self.first_bytes += 1
        assert self.first_bytes == 1

    def finish(
        self,
        now: float,
        outcome: Outcome,
        prompt_tokens: int = 0,
        cached_tokens: int = 0,
        output_tokens: int = 0,
    ) -> None:
        assert self.outcome is None, "finished twice"
        self.outcome = outcome
        self.worker.in_flight -= 1

    def counted(self, prompt_tokens: int, cached_tokens: int, output_tokens: int) -> None:
        assert self.outcome is not None
        assert self.tokens is None, "counted twice"
        self.tokens = (prompt_tokens, cached_tokens, output_tokens)


class FirstFitRouter:
    """The first worker that accepts, in the order of the fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.placed: list[Placed] = []

    def assign(self, request: RouteRequest, now: float, exclude: frozenset[str] = frozenset()) -> Placed:
        for worker in self.fleet.serving(request.model):
            if worker.id not in exclude:
                worker.in_flight += 1
                self.placed.append(Placed(worker, request))
                return self.placed[-1]
        raise NoWorkerError("nobody", unknown_model=request.model not in self.fleet.models())


@dataclass(eq=False)
class Opening:
    """A connection that is being opened: the test says how that ends. Stands in for the pool's task."""

    pool: MemoryPool
    worker: Worker
    opened: Opened
    cancelled: bool = False
    settled: bool = False

    def cancel(self) -> None:
        self.cancelled = True

    def succeed(self) -> UpstreamConnection:
        connection = self.pool.connect(self.worker)
        self._settle(connection)
        return connection

    def fail(self, error: OSError | None = None) -> None:
        self._settle(error or ConnectionRefusedError(111, "Connection refused"))

    def _settle(self, result: UpstreamConnection | OSError) -> None:
        assert not self.cancelled
        assert not self.settled
        self.settled = True
        self.opened(result)

    @property
    def pending(self) -> bool:
        return not (self.cancelled or self.settled)


class MemoryPool(Pool):
    """The pool with its way to the network cut off."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop, 1 << 20)
        self.openings: list[Opening] = []
        self.connections: list[UpstreamConnection] = []

    def open(self, worker: Worker, opened: Opened) -> asyncio.Task[None]:
        opening = Opening(self, worker, opened)
        self.openings.append(opening)
        return opening  # type: ignore[return-value]

    def connect(self, worker: Worker) -> UpstreamConnection:
        connection = UpstreamConnection(worker, 1 << 20)
        connection.connection_made(MemoryTransport())  # type: ignore[arg-type]
        self.connections.append(connection)
        return connection


@dataclass
class Surroundings:
    relay: Relay
    clock: Clock
    fleet: Fleet
    router: FirstFitRouter
    pool: MemoryPool
    recorded: list[AccessRecord] = field(default_factory=list)

    @property
    def records(self) -> list[AccessRecord]:
        """Of all that have ended."""
        self.relay.accounting.settle()
        return self.recorded

    def call(
        self,
        body: bytes = CHAT,
        *,
        url: bytes = b"/v1/chat/completions",
        family: str = "chat",
        headers: list[tuple[bytes, bytes]] | None = None,
        client: MemoryClient | None = None,
    ) -> tuple[Exchange, MemoryClient]:
        """Admit a call and start it."""
        headers = headers or []
        client = client or MemoryClient()
        envelope = Envelope(url, family, sent_on_lines(headers), None, read_wishes(dict(headers)))
        call = self.relay.admitter.admit(envelope, b"id-1", body, b"x-request-id: id-1\r\n")
        exchange = Exchange(self.relay, client, call, self.clock())
        exchange.start()
        return exchange, client

    def sent(self, **options: Any) -> tuple[Exchange, MemoryClient, UpstreamConnection]:
        """A call whose request is on its way."""
        exchange, client = self.call(**options)
        return exchange, client, self.pool.openings[-1].succeed()

    def streaming(self, **options: Any) -> tuple[Exchange, MemoryClient, UpstreamConnection]:
        """A call whose answer has begun."""
        exchange, client, connection = self.sent(**options)
        connection.data_received(STREAM_HEAD + chunked(EVENT))
        return exchange, client, connection

    def worker(self, number: int) -> Worker:
        return self.fleet.workers[f"w{number}"]

    def sweep(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        self.relay.sweep(self.clock())

    def assert_quiet(self) -> None:
        """Nothing is counted any more, and no place, connection or timer was forgotten."""
        relay = self.relay
        assert not relay.exchanges
        assert relay.accounting.active == 0
        assert len(relay.waiting) == 0
        assert [w.in_flight for w in self.fleet] == [0] * len(self.fleet.workers)
        assert all(placed.outcome is not None for placed in self.router.placed)
        assert not any(opening.pending for opening in self.pool.openings)
        assert all(connection.receiver is None for connection in self.pool.connections)


Surround = Callable[..., Surroundings]


def surroundings(
    loop: asyncio.AbstractEventLoop, settings: RelaySettings | None = None, workers: int = 2
) -> Surroundings:
    """To be called inside `loop`."""
    settings = settings or RelaySettings()
    fleet = Fleet()
    records: list[AccessRecord] = []
    router = FirstFitRouter(fleet)
    relay = Relay(
        settings,
        fleet,
        router,
        Breakers(fleet, settings.health),
        Accounting(),
        observers=Observers(record=records.append),
    )
    clock = Clock()
    relay.now = clock
    relay.pool = pool = MemoryPool(loop)
    fleet.update([WorkerInfo(f"w{n}", f"http://127.0.0.1:{9000 + n}", model="m") for n in range(workers)])
    for worker in fleet:
        worker.health = "ready"
    return Surroundings(relay, clock, fleet, router, pool, records)


@pytest.fixture
async def surround() -> AsyncIterator[Surround]:
    """Makes surroundings for given settings; at the end of the test nothing in them may be in use."""
    made: list[Surroundings] = []

    def make(settings: RelaySettings | None = None, workers: int = 2) -> Surroundings:
        made.append(surroundings(asyncio.get_running_loop(), settings, workers))
        return made[-1]

    yield make
    for s in made:
        for exchange in list(s.relay.exchanges):
            exchange.client_gone()
            assert exchange.state is DONE
        s.assert_quiet()


@pytest.fixture
def surroundings_in_loop() -> Iterator[Callable[..., Surroundings]]:
    """For tests that are not coroutines: the same, in a loop that does not run."""
    loop = asyncio.new_event_loop()

    async def make(settings: RelaySettings | None, workers: int) -> Surroundings:
        return surroundings(loop, settings, workers)

    yield lambda settings=None, workers=2: loop.run_until_complete(make(settings, workers))
    loop.close()
