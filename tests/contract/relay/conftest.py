"""A gateway's data plane over real sockets, in front of fake engines or workers that follow a script.

The loop is uvloop's, as in production. The control plane is a few lines of FastAPI: what matters here is
that it shares the connection.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import uvicorn
import uvloop
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from engine_adapter.api import WorkerInfo
from engine_adapter.fake import FakeEngine, FakeEngineConfig
from gateway.access.keys import Key
from gateway.relay.accounting import AccessRecord, Accounting
from gateway.relay.breaker import Breakers
from gateway.relay.front import Front
from gateway.relay.relay import Observers, Relay
from gateway.relay.settings import RelaySettings
from gateway.routing.fleet import Fleet, Worker
from gateway.routing.router import Router
from gateway.routing.settings import RoutingSettings

CHAT: dict[str, Any] = {"model": "fake", "messages": [{"role": "user", "content": "Tell me about the fox."}]}
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
JSON_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
DONE = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunked(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


async def until(predicate: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for what no event tells."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not predicate():
        assert asyncio.get_running_loop().time() < deadline, "it never came true"
        await asyncio.sleep(0.002)


def post_bytes(
    body: dict[str, Any] | bytes = CHAT,
    path: str = "/v1/chat/completions",
    version: str = "1.1",
    **headers: str,
) -> bytes:
    """A request as bytes; `_` in header names stands for `-`."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    fields = {"host": "gateway", "content-type": "application/json", "content-length": str(len(content))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/{version}\r\n{lines}\r\n".encode("latin-1") + content


class Answer:
    """One answer read off a raw connection."""

    def __init__(self, head: bytes, body: bytes, raw_body: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.version, status, *_ = first.split(" ")
        self.status = int(status)
        self.headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            assert name.lower() not in self.headers, f"{name} twice"
            self.headers[name.lower()] = value
        self.body = body
        self.raw_body = raw_body

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = orjson.loads(self.body)["error"]
        return error


class RawClient:
    """A TCP connection that sends and receives bytes as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> tuple[bytes, dict[bytes, bytes]]:
        raw = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5))[:-4]
        lines = raw.split(b"\r\n")[1:]
        return raw, {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}

    async def answer(self) -> Answer:
        """Read one answer by its framing, strictly."""
        raw, fields = await self.head()
        body = raw_body = b""
        if fields.get(b"transfer-encoding") == b"chunked":
            assert b"content-length" not in fields
            while True:
                line = await asyncio.wait_for(self.reader.readuntil(b"\r\n"), 5)
                piece = await asyncio.wait_for(self.reader.readexactly(int(line, 16) + 2), 5)
                assert piece.endswith(b"\r\n")
                raw_body += line + piece
                if len(piece) == 2:
                    break
                body += piece[:-2]
        elif b"content-length" in fields:
            body = raw_body = await asyncio.wait_for(
                self.reader.readexactly(int(fields[b"content-length"])), 5
            )
        elif not raw.startswith((b"HTTP/1.1 1", b"HTTP/1.1 204", b"HTTP/1.1 304")):
            body = raw_body = await self.rest()
        return Answer(raw, body, raw_body)

    async def rest(self) -> bytes:
        """Everything until the connection ends."""
        return await asyncio.wait_for(self.reader.read(), 5)

    async def ended(self) -> bool:
        """Does the gateway close the connection without another byte?"""
        try:
            return await self.rest() == b""
        except ConnectionResetError:
            return True

    def reset(self) -> None:
        """Go as a client does whose process was killed."""
        self.writer.transport.abort()


class Server(uvicorn.Server):
    """uvicorn's server, told by an event to stop instead of looking ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._told.wait()

    def stop(self) -> None:
        self.should_exit = True
        self._told.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
            await server.wait_closed()
        for listener in sockets or ():
            listener.close()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Gateway:
    relay: Relay
    fleet: Fleet
    port: int
    server: Server
    serving: asyncio.Task[None]
    connections: list[RawClient] = field(default_factory=list)
    recorded: list[AccessRecord] = field(default_factory=list)

    @property
    def records(self) -> list[AccessRecord]:
        """Of all requests that have ended."""
        self.accounting.settle()
        return self.recorded

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def accounting(self) -> Accounting:
        return self.relay.accounting

    def worker(self, number: int = 0) -> Worker:
        return self.fleet.workers[f"w{number}"]

    def http(self, **options: Any) -> httpx.AsyncClient:
        # `verify=False` only saves loading certificates, which costs more than a test.
        return httpx.AsyncClient(base_url=self.url, timeout=5, verify=False, **options)

    async def connect(self, receive_buffer: int | None = None) -> RawClient:
        handle = socket.socket()
        handle.setblocking(False)
        if receive_buffer is not None:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(handle, ("127.0.0.1", self.port))
        options = {} if receive_buffer is None else {"limit": receive_buffer}
        client = RawClient(*await asyncio.open_connection(sock=handle, **options))
        self.connections.append(client)
        return client

    async def ask(self, data: bytes) -> Answer:
        """Send bytes on a connection of their own and read one answer."""
        client = await self.connect()
        client.send(data)
        return await client.answer()

    async def quiet(self, seconds: float = 5.0) -> None:
        """Wait until nothing is in progress, and see that nothing is counted then."""
        await until(lambda: not self.relay.exchanges, seconds)
        self.assert_nothing_is_counted()

    def assert_nothing_is_counted(self) -> None:
        assert self.accounting.active == 0
        assert len(self.relay.waiting) == 0
        assert [worker.in_flight for worker in self.fleet] == [0] * len(self.fleet.workers)
        router = self.relay.router
        assert isinstance(router, Router)
        assert all(len(state.queue) == 0 for state in router.states())
        assert not self.relay.pool._opening

    async def stop(self) -> None:
        for client in self.connections:
            client.writer.close()
        for client in self.connections:
            try:
                await client.writer.wait_closed()
            except OSError:
                continue
        for _ in range(20):  # the shutdown of uvicorn looks for open connections ten times a second only
            if not self.server.server_state.connections:
                break
            await asyncio.sleep(0.001)
        self.server.stop()
        await self.serving
        await self.relay.stop()


StartGateway = Callable[..., Awaitable[Gateway]]


def control_plane() -> FastAPI:
    app = FastAPI()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/echo")
    async def echo(request: Request) -> dict[str, Any]:
        return {"length": len(await request.body()), "path": request.url.path, "query": request.url.query}

    @app.get("/slow")
    async def slow() -> StreamingResponse:
        async def lines() -> AsyncIterator[bytes]:
            for n in range(3):
                yield b"%d\n" % n
                await asyncio.sleep(0.02)

        return StreamingResponse(lines())

    return app


@pytest.fixture
async def start_gateway() -> AsyncIterator[StartGateway]:
    """Start a gateway in front of workers given by URL or as fake engines; it is stopped after the test."""
    started: list[Gateway] = []

    async def start(
        *workers: str | FakeEngine,
        settings: RelaySettings | None = None,
        keys: Any = None,
        models: tuple[str, ...] = ("fake",),
        policy: str | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> Gateway:
        settings = settings or RelaySettings()
        fleet = Fleet()
        routing = RoutingSettings() if policy is None else RoutingSettings(policy=policy)
        records: list[AccessRecord] = []
        relay = Relay(
            settings,
            fleet,
            Router(fleet, routing),
            Breakers(fleet, settings.health),
            Accounting(),
            keys,
            Observers(record=records.append),
        )
        relay.start()
        urls = [w if isinstance(w, str) else w.url for w in workers]
        fleet.update([WorkerInfo(f"w{n}", url) for n, url in enumerate(urls)])
        for worker in fleet:
            worker.health, worker.models = "ready", models
        config = uvicorn.Config(
            control_plane(),
            http=lambda **arguments: Front(relay, **arguments),  # type: ignore[arg-type]
            loop="none",
            ws="none",
            log_level="critical",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=2,
            ssl_certfile=tls[0] if tls else None,
            ssl_keyfile=tls[1] if tls else None,
        )
        server = Server(config)
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        serving = asyncio.get_running_loop().create_task(server.serve([listener]))
        await until(lambda: server.started)
        gateway = Gateway(relay, fleet, listener.getsockname()[1], server, serving, recorded=records)
        started.append(gateway)
        return gateway

    yield start
    for gateway in started:
        await gateway.stop()
        gateway.assert_nothing_is_counted()


StartEngine = Callable[..., Awaitable[FakeEngine]]


@pytest.fixture
async def start_engine() -> AsyncIterator[StartEngine]:
    """Start a fake engine with the given config fields; it is stopped after the test."""
    async with AsyncExitStack() as stack:

        async def start(**fields: Any) -> FakeEngine:
            return await stack.enter_async_context(FakeEngine(FakeEngineConfig(**fields)))

        yield start


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class ScriptedWorker:
    """A server whose every connection runs a coroutine, for what no sound server does."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        self.requests: list[bytes] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._run, "127.0.0.1", 0, limit=1 << 20)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the gateway left, as it may
        finally:
            self._tasks.discard(task)
            writer.close()

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        """Read one request off a connection, head and body."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(v) for n, _, v in (x.partition(b": ") for x in head.split(b"\r\n")) if n == b"content-length"
        )
        self.requests.append(head + await reader.readexactly(length))
        return self.requests[-1]

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()


@dataclass
class Scripts:
    workers: list[ScriptedWorker] = field(default_factory=list)

    async def run(self, script: Script) -> tuple[ScriptedWorker, str]:
        worker = ScriptedWorker(script)
        self.workers.append(worker)
        return worker, await worker.start()

    async def answering(self, *pieces: bytes, pause: float = 0.0) -> tuple[ScriptedWorker, str]:
        """Each request is answered with `pieces`; the connection stays open."""

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await worker.request(reader)
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(pause)

        worker, url = await self.run(script)
        return worker, url

    async def dying(self, *pieces: bytes) -> tuple[ScriptedWorker, str]:
        """Each request is answered with `pieces`, and then the connection is reset."""

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await worker.request(reader)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.005)
            writer.transport.abort()

        worker, url = await self.run(script)
        return worker, url

    async def silent(self, *pieces: bytes) -> tuple[ScriptedWorker, str]:
        """Each request is answered with `pieces` and then with nothing until the gateway leaves."""

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await worker.request(reader)
            for piece in pieces:
                writer.write(piece)
            await reader.read()

        worker, url = await self.run(script)
        return worker, url


@pytest.fixture
async def scripts() -> AsyncIterator[Scripts]:
    scripts = Scripts()
    yield scripts
    for worker in scripts.workers:
        await worker.stop()


@pytest.fixture
def full_listener() -> Iterator[str]:
    """URL of a listener whose backlog is full: connecting to it never ends (Linux drops the SYN)."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class OneKey:
    """Implements `gateway.relay.call.Keys` for one secret."""

    version = 1
    key = Key(id="k", name="k", hash="", tenant="acme")

    def check(self, authorization: bytes | None, x_api_key: bytes | None = None) -> Key | None:
        return self.key if authorization == b"Bearer secret" or x_api_key == b"secret" else None
