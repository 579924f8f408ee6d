"""`FakeEngine`: an inference server without a model, inside a test's event loop or as a process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from dataclasses import replace
from types import TracebackType
from typing import Self

from engine_adapter.fake.block_pool import BlockPool
from engine_adapter.fake.clockwork import Clockwork
from engine_adapter.fake.config import FakeEngineConfig
from engine_adapter.fake.faults import Fault, FaultPlan
from engine_adapter.fake.front import Front, RecordedRequest
from engine_adapter.fake.http import Connection
from engine_adapter.fake.kv_events import KVEventPublisher
from engine_adapter.fake.scheduler import Job, Scheduler
from engine_adapter.fake.stats import Stats

_BACKLOG = 4096


class FakeEngine:
    """A deterministic stand-in for a vLLM server.

        async with FakeEngine(FakeEngineConfig()) as engine:
            ...  # talk to engine.url
            await engine.stats.until(lambda stats: stats.aborted_total == 1)

    Stopping and starting again keeps the port and forgets everything else, as a restarted worker does.
    """

    def __init__(self, config: FakeEngineConfig | None = None) -> None:
        self.config = config or FakeEngineConfig()
        self._port = self.config.port
        self._control_port = self.config.control_port
        self._server: asyncio.Server | None = None
        self._control: asyncio.Server | None = None
        self._reopening: asyncio.TimerHandle | None = None
        self._listening: asyncio.Task[None] | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._started = False
        self._publisher: KVEventPublisher | None = None
        self._fresh = True
        """Nothing was served since the parts were built."""
        self._build()

    def _build(self) -> None:
        config = self.config
        events = config.kv_events
        self.stats = Stats()
        self.pool = None
        if events is not None and self._publisher is not None:
            # A restarted worker publishes where it did before.
            events = replace(
                events, endpoint=self._publisher.endpoint, replay_endpoint=self._publisher.replay_endpoint
            )
        self._publisher = KVEventPublisher(events) if events is not None else None
        if config.prefix_cache is not None:
            self.pool = BlockPool(
                config.prefix_cache,
                int_hashes=events is None or events.int_hashes,
                record_events=events is not None,
            )
        self._scheduler = Scheduler(
            config.timing, config.max_num_seqs, self.stats, self.pool, self._publisher
        )
        self._clockwork = Clockwork(self._scheduler)
        self._plan = FaultPlan(config.faults)
        self._front = Front(
            config, self.stats, self._clockwork, self._plan, self.pool, self._publisher, self._apply_refusal
        )

    @property
    def url(self) -> str:
        """Base URL of the started engine, e.g. `http://127.0.0.1:9000`."""
        return f"http://{self.config.host}:{self._port}"

    @property
    def control_url(self) -> str:
        """Base URL of the listener that no fault touches; the engine's own if there is no other."""
        return self.url if self._control_port is None else f"http://{self.config.host}:{self._control_port}"

    @property
    def kv_endpoint(self) -> str | None:
        """ZMQ endpoint of the KV events, None if they are off."""
        return self._publisher.endpoint if self._publisher is not None else None

    @property
    def kv_replay_endpoint(self) -> str | None:
        """ZMQ endpoint that replays KV events, None if there is none."""
        return self._publisher.replay_endpoint if self._publisher is not None else None

    @property
    def running(self) -> list[Job]:
        """Requests in the engine's batch."""
        return self._scheduler.running

    @property
    def waiting(self) -> list[Job]:
        """Requests in its queue."""
        return self._scheduler.waiting

    @property
    def requests(self) -> list[RecordedRequest]:
        """The latest requests, as many as `record_requests` says, oldest first."""
        return list(self._front.recorded)

    async def start(self) -> str:
        """Listen; returns the base URL."""
        if self._started:
            raise RuntimeError("the fake engine is already started")
        self._started = True
        if not self._fresh:
            self._build()
        self._fresh = False
        self._clockwork.start()
        if self._publisher is not None:
            await self._publisher.start()
        if self.config.control_port is not None:
            self._control = await self._listen(self._control_port or 0, control=True)
            self._control_port = _port_of(self._control)
        # Bound even if it is to refuse: the port must be known and stay ours.
        self._server = await self._listen(self._port, control=False)
        self._port = _port_of(self._server)
        self._front.id_space = self._port
        self._apply_refusal()
        self._sweep()
        return self.url

    async def stop(self) -> None:
        """Close the listeners and every connection; requests in flight die with them, figures stay."""
        self._started = False
        for timer in (self._reopening, self._listening, self._sweeping):
            if timer is not None:
                timer.cancel()
        self._reopening = self._listening = self._sweeping = None
        servers = [server for server in (self._server, self._control) if server is not None]
        self._server = self._control = None
        for server in servers:
            server.close()
        self._clockwork.stop()
        self._front.close()
        # Let closed transports report it, so that nothing is left behind in the loop.
        await asyncio.sleep(0)
        for server in servers:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await server.wait_closed()
        if self._publisher is not None:
            await self._publisher.stop()

    async def restart(self) -> str:
        """Stop, and start anew on the same port with an empty cache and KV events counted from 0."""
        await self.stop()
        return await self.start()

    def set_faults(self, *faults: Fault) -> None:
        """Replace the faults in force; none means sound behaviour."""
        self._front.set_faults(list(faults))

    def drop_connections(self) -> None:
        """Reset every open connection, as the death of a process does."""
        for connection in list(self._front.connections):
            if not connection.control:
                connection.reset()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _listen(self, port: int, *, control: bool) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            lambda: Connection(self._front, control=control), self.config.host, port, backlog=_BACKLOG
        )

    def _sweep(self) -> None:
        """Close idle connections, and look again before the next could be due."""
        limit = self.config.keep_alive_s
        if limit is None:
            return
        oldest = time.monotonic() - limit
        for connection in list(self._front.connections):
            if connection.current is None and connection.idle_since <= oldest:
                connection.close()
        self._sweeping = asyncio.get_running_loop().call_later(limit / 4, self._sweep)

    def _apply_refusal(self) -> None:
        """Close or open the listener as the faults in force want it."""
        if not self._started:
            return
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None
        refusal = self._plan.refusal()
        if refusal is None:
            if self._server is None and self._listening is None:
                self._listening = asyncio.get_running_loop().create_task(self._reopen())
            return
        if self._server is not None:
            self._server.close()
            self._server = None
            self.stats.faults_committed += 1
            if refusal.reset:
                self.drop_connections()
        if refusal.for_s is not None:
            self._reopening = asyncio.get_running_loop().call_later(refusal.for_s, self._end_refusal)

    def _end_refusal(self) -> None:
        self._plan.end_refusal()
        self._apply_refusal()

    async def _reopen(self) -> None:
        try:
            self._server = await self._listen(self._port, control=False)
        finally:
            self._listening = None


def _port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def serve(config: FakeEngineConfig) -> None:
    """Serve until SIGINT or SIGTERM; prints the URL when ready."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with FakeEngine(config) as engine:
        names = ", ".join(model.name for model in config.models)
        print(f"fake engine serves {names} on {engine.url}", flush=True)
        if config.control_port is not None:
            print(f"control on {engine.control_url}", flush=True)
        if engine.kv_endpoint is not None:
            print(f"KV events on {engine.kv_endpoint}, replay on {engine.kv_replay_endpoint}", flush=True)
        await stopping.wait()


def run(config: FakeEngineConfig) -> None:
    """Run a fake engine as this process, on uvloop where it is installed, until SIGINT or SIGTERM."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(config))
    else:
        uvloop.run(serve(config))
