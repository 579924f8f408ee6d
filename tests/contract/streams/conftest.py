"""A gateway with everything that keeps streams, before a worker that is cranked by hand or a fake engine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import uvicorn
import uvloop

from engine_adapter.api import WorkerInfo
from engine_adapter.fake import FakeEngine, FakeEngineConfig
from gateway.access.keys import KeyRing, append_key, new_key
from gateway.api.app import create_app
from gateway.api.context import GatewayContext
from gateway.relay.accounting import AccessRecord, Accounting
from gateway.relay.breaker import Breakers
from gateway.relay.front import Front
from gateway.relay.membership import Membership
from gateway.relay.relay import Observers, Relay
from gateway.relay.settings import RelaySettings
from gateway.routing.fleet import Fleet
from gateway.routing.router import Router
from gateway.telemetry.metrics import Exposition
from gateway.telemetry.snapshot import Sources, take
from gateway.transport.calls import Calls, open_calls
from gateway.transport.library import Library
from gateway.transport.settings import RealtimeSettings, StreamSettings
from gateway.transport.siblings import Siblings
from gateway.transport.streams import Streams

CHAT: dict[str, Any] = {"model": "fake", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
RESUMABLE = {"x-sluice-stream": "resumable"}
DETACHED = {"x-sluice-stream": "detached"}
DONE = b"data: [DONE]\n\n"
PATIENCE = 60.0


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


def token(text: str) -> bytes:
    """An event that adds `text` to the answer."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    document = {"id": "c1", "object": "chat.completion.chunk", "model": "fake", "choices": [choice]}
    return b"data: " + orjson.dumps(document) + b"\n\n"


async def until(predicate: Callable[[], object]) -> None:
    """Wait for what no event tells."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not predicate():
        assert asyncio.get_running_loop().time() < deadline, "it never came true"
        await asyncio.sleep(0.002)


class CrankedWorker:
    """Answers every request with the head of a stream, and with events when a test says so."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.answers: list[asyncio.StreamWriter] = []
        self.lost: list[asyncio.StreamWriter] = []
        """Of these, those whose connection the gateway has closed."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[CrankedWorker]:
        tasks: set[asyncio.Task[None]] = set()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.add(asyncio.current_task())  # type: ignore[arg-type]
            try:
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode()
                    length = next(int(x[16:]) for x in head.split("\r\n") if x.startswith("content-length: "))
                    self.heads.append(head)
                    self.bodies.append(orjson.loads(await reader.readexactly(length)))
                    writer.write(
                        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                        b"transfer-encoding: chunked\r\n\r\n"
                    )
                    self.answers.append(writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                self.lost.append(writer)
            except asyncio.CancelledError:
                pass  # the test is over
            finally:
                writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.wait_closed()

    def say(self, *events: bytes, number: int = -1) -> None:
        """Write events to the latest answer; `DONE` also ends its body."""
        for event in events:
            self.answers[number].write(b"%x\r\n%b\r\n" % (len(event), event))
        if events[-1].endswith(DONE):
            self.answers[number].write(b"0\r\n\r\n")


class Server(uvicorn.Server):
    """uvicorn's, told by an event to stop instead of looking ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.told = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.told.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class House:
    """A running gateway."""

    relay: Relay
    streams: Streams
    calls: Calls
    context: GatewayContext
    port: int
    recorded: list[AccessRecord]
    secrets: dict[str, str] = field(default_factory=dict)
    """API keys by name, where keys are asked for."""

    @property
    def records(self) -> list[AccessRecord]:
        """Of all requests that have ended."""
        self.relay.accounting.settle()
        return self.recorded

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def http(self, key: str = "", **options: Any) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {self.secrets[key]}"} if key else {}
        return httpx.AsyncClient(
            base_url=self.url, timeout=PATIENCE, verify=False, headers=headers, **options
        )

    async def quiet(self) -> None:
        """Wait until no exchange is in progress."""
        await until(lambda: not self.relay.exchanges)


OpenHouse = Callable[..., Awaitable[House]]


@pytest.fixture
async def worker() -> AsyncIterator[CrankedWorker]:
    async with CrankedWorker().running() as cranked:
        yield cranked


@pytest.fixture
async def open_house(tmp_path: Path) -> AsyncIterator[OpenHouse]:
    """Start a gateway before workers (anything with a `url`); it is stopped after the test."""
    async with AsyncExitStack() as stack:

        async def start(
            *workers: Any,
            streams: StreamSettings | None = None,
            relay: RelaySettings | None = None,
            realtime: RealtimeSettings | None = None,
            keys: tuple[str, ...] = (),
            store: Any = None,
            keyring: House | None = None,
        ) -> House:
            return await stack.enter_async_context(
                _house(
                    tmp_path,
                    workers,
                    streams or StreamSettings(),
                    relay or RelaySettings(),
                    realtime or RealtimeSettings(),
                    keys,
                    store,
                    keyring,
                )
            )

        yield start


@contextlib.asynccontextmanager
async def _house(
    folder: Path,
    workers: tuple[Any, ...],
    stream_settings: StreamSettings,
    relay_settings: RelaySettings,
    realtime: RealtimeSettings,
    names: tuple[str, ...],
    store: Any,
    same_keys: House | None,
) -> AsyncIterator[House]:
    secrets: dict[str, str] = {} if same_keys is None else same_keys.secrets
    ring = None if same_keys is None else same_keys.context.keyring
    if names:
        for name in names:
            secrets[name], record = new_key(name)
            append_key(folder / "keys.json", record)
        ring = KeyRing(folder / "keys.json")
    fleet = Fleet()
    router = Router(fleet)
    accounting = Accounting()
    records: list[AccessRecord] = []
    relay = Relay(
        relay_settings,
        fleet,
        router,
        Breakers(fleet, relay_settings.health),
        accounting,
        ring,
        Observers(record=records.append),
    )
    streams = Streams(stream_settings, relay, mirror=store)
    if store is not None:
        store.attach(streams)
    relay.open_logged = streams.open
    relay.start()
    infos = [WorkerInfo(f"w{n}", worker.url) for n, worker in enumerate(workers)]
    membership = Membership(fleet, folder / "overrides.json", workers=infos)
    for worker in fleet:
        worker.health, worker.models = "ready", ("fake",)
    library = Library(streams, Siblings(None, 0, 1), store)
    calls = open_calls(realtime, relay, library)
    context = GatewayContext(
        membership,
        router,
        Exposition(lambda: take(Sources(accounting, fleet, routing=router.account))),
        keyring=ring,
        relay=relay_settings,
        streams=library,
        calls=calls,
    )
    config = uvicorn.Config(
        create_app(context),
        http=lambda **arguments: Front(relay, **arguments),  # type: ignore[arg-type]
        loop="none",
        ws="none",
        log_level="critical",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=2,
    )
    server = Server(config)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    serving = asyncio.get_running_loop().create_task(server.serve([listener]))
    await until(lambda: server.started)
    try:
        yield House(relay, streams, calls, context, listener.getsockname()[1], records, secrets)
    finally:
        await calls.close()
        for exchange in list(relay.exchanges):
            exchange.client_gone("drained")
        server.should_exit = True
        server.told.set()
        await serving
        await relay.stop()


@pytest.fixture
async def start_engine() -> AsyncIterator[Callable[..., Awaitable[FakeEngine]]]:
    """Start a fake engine with the given config fields; it is stopped after the test."""
    async with AsyncExitStack() as stack:

        async def start(**fields: Any) -> FakeEngine:
            return await stack.enter_async_context(FakeEngine(FakeEngineConfig(**fields)))

        yield start
