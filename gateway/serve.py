"""One gateway process, wired: data plane and control plane on one port, and what watches over both.

This is the only place where the rooms of `gateway` meet. The settings are read once, here; nothing looks
for them again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvicorn
import uvloop

from gateway.access.keys import KeyRing
from gateway.access.settings import startup_error
from gateway.api.app import create_app
from gateway.api.context import GatewayContext
from gateway.api.routes.pages import find_page
from gateway.relay.accounting import AccessRecord, Accounting
from gateway.relay.addresses import AddressWatcher
from gateway.relay.breaker import Breakers
from gateway.relay.front import Front
from gateway.relay.membership import Membership
from gateway.relay.prober import Prober
from gateway.relay.relay import Observers, Relay
from gateway.routing.fleet import Fleet
from gateway.routing.kv_events import KVEventFollower
from gateway.routing.peer_sockets import PeerEndpoints, PeerError, PeerSockets, endpoints_of
from gateway.routing.peers import PeerExchange
from gateway.routing.router import Router
from gateway.settings import Settings
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.log import access_log, configure_logging
from gateway.telemetry.metrics import Exposition
from gateway.telemetry.processes import ProcessFiles
from gateway.telemetry.snapshot import Sources, take
from gateway.telemetry.traces import Traces, TracingUnavailableError
from gateway.transport.calls import open_calls
from gateway.transport.counts import StreamSources
from gateway.transport.library import Library
from gateway.transport.siblings import Siblings
from gateway.transport.streams import Streams

log = structlog.get_logger(__name__)

_IDLE_SWEEP_SECONDS = 1.0
_FIRST_ROUND_SECONDS = 0.5
"""So long connections wait at the most until the workers were asked; usually it takes milliseconds."""
_RELOAD_SECONDS = 1.0
"""Between two looks at the settings file."""
_SHUTDOWN_MARGIN = 2.0
"""Seconds for connections to close after the drain."""


if TYPE_CHECKING:
    from gateway.transport.valkey_store import ValkeyStore


class StartupError(Exception):
    """The gateway must not or cannot start as configured; the message says what to do."""


def run_gateway(
    settings: Settings,
    listeners: list[socket.socket],
    fleet_file: Path,
    number: int = 0,
    socket_dir: Path | None = None,
    keep_fleet_file: Callable[[], None] | None = None,
) -> None:
    """Serve on `listeners` until SIGTERM or SIGINT, drain, and return. Raises StartupError.

    `number` is this process's among `settings.listen.processes`; they meet in `socket_dir`. Where no parent
    process keeps the fleet file, `keep_fleet_file` does, called now and then in a thread.
    """
    configure_logging(settings.telemetry)
    keys = _keys(settings)
    # Objects of the start live as long as the process: looking through them again and again for garbage
    # is what makes the collector's pauses long.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    try:
        peers = endpoints_of(settings.peers, settings.listen.processes, number, socket_dir)
    except PeerError as error:
        raise StartupError(str(error)) from error
    siblings = Siblings(socket_dir, number, settings.listen.processes)
    uvloop.run(_serve(settings, listeners, fleet_file, keys, peers, siblings, keep_fleet_file))


def _keys(settings: Settings) -> KeyRing | None:
    keys = None
    if settings.access.key_file is not None:
        try:
            keys = KeyRing(settings.access.key_file)
        except (OSError, ValueError) as error:
            raise StartupError(f"the key file cannot be used: {error}") from error
    problem = startup_error(settings.access, settings.listen.host, len(keys) if keys is not None else 0)
    if problem is not None:
        raise StartupError(problem)
    return keys


def _traces(settings: Settings) -> Traces | None:
    if settings.telemetry.otlp_endpoint is None:
        return None
    try:
        return Traces(settings.telemetry)
    except TracingUnavailableError as error:
        raise StartupError(str(error)) from error


def _store(settings: Settings) -> ValkeyStore | None:
    """Where streams are kept beside this process; it is told of them once the loop runs."""
    if not settings.streams.valkey_url:
        return None
    try:
        from gateway.transport.valkey_store import ValkeyStore
    except ImportError as error:
        raise StartupError("streams.valkey_url needs the client: pip install 'sluice[valkey]'") from error
    return ValkeyStore(settings.streams)


def _observers(requests: AccessLog | None, traces: Traces | None) -> Observers:
    if traces is None:
        return Observers() if requests is None else Observers(requests.write, requests.wants)

    def write(record: AccessRecord) -> None:
        traces.write(record)
        if requests is not None and requests.wants(record.status, record.end):
            requests.write(record)

    return Observers(write, child_traceparent=traces.child_traceparent)


async def _serve(
    settings: Settings,
    listeners: list[socket.socket],
    fleet_file: Path,
    keys: KeyRing | None,
    peers: PeerEndpoints,
    siblings: Siblings,
    keep_fleet_file: Callable[[], None] | None,
) -> None:
    run_directory = fleet_file.parent
    fleet = Fleet()
    breakers = Breakers(fleet, settings.relay.health)
    router = Router(fleet, settings.routing)
    accounting = Accounting()
    requests = access_log(settings.telemetry)
    membership = Membership(fleet, run_directory / "overrides.json", fleet_file=fleet_file)
    events = KVEventFollower(fleet, router)
    sources = Sources(
        accounting,
        fleet,
        breakers,
        router.account,
        requests,
        states=router.states,
        kv_reports=events.reports,
        peers=lambda: router.peers,
    )
    numbers = ProcessFiles(run_directory if settings.listen.processes > 1 else None, lambda: take(sources))
    traces = _traces(settings)
    observers = _observers(requests, traces)
    relay = Relay(settings.relay, fleet, router, breakers, accounting, keys, observers)
    store = _store(settings)
    streams = Streams(settings.streams, relay, siblings.number, store)
    if store is not None:
        store.attach(streams)
    relay.open_logged = streams.open
    library = Library(streams, siblings, store)
    calls = open_calls(settings.realtime, relay, library)
    sources.streams = StreamSources(streams.counts, lambda: streams.gauges() | calls.gauges())
    context = GatewayContext(
        membership=membership,
        router=router,
        exposition=Exposition(numbers.totals),
        keyring=keys,
        relay=settings.relay,
        telemetry=settings.telemetry,
        settings=settings.model_dump(mode="json"),
        page=find_page(),
        streams=library,
        calls=calls,
    )
    config = uvicorn.Config(
        create_app(context),
        http=lambda **arguments: Front(relay, **arguments),  # type: ignore[arg-type]
        loop="none",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        backlog=settings.listen.backlog,
        timeout_keep_alive=int(settings.relay.limits.keep_alive_seconds),
        timeout_graceful_shutdown=int(settings.relay.drain_seconds + _SHUTDOWN_MARGIN),
        ssl_certfile=settings.listen.tls_cert,
        ssl_keyfile=settings.listen.tls_key,
    )
    server = DrainingServer(config, relay, context)
    async with contextlib.AsyncExitStack() as stack:
        if requests is not None:
            stack.callback(requests.close)
        stack.callback(numbers.close)
        if traces is not None:
            stack.push_async_callback(asyncio.to_thread, traces.close)
        prober = Prober(
            membership,
            breakers,
            settings.relay.health,
            settings.relay.worker_api_key,
            on_cache_size=router.know_cache_size,
        )
        interval = settings.relay.health.resolve_interval
        await stack.enter_async_context(AddressWatcher(membership.names, membership.know_addresses, interval))
        await stack.enter_async_context(prober)
        await prober.first_round(within=_FIRST_ROUND_SECONDS)
        await events.start()
        stack.push_async_callback(events.close)
        if peers.listen:
            router.peers = PeerExchange(secrets.token_hex(8), router.states)
            sockets = PeerSockets(router.peers, peers, settings.peers.interval_s)
            try:
                await sockets.start()
            except PeerError as error:
                raise StartupError(str(error)) from error
            stack.push_async_callback(sockets.close)
        relay.start()
        stack.push_async_callback(relay.stop)
        stack.push_async_callback(siblings.close)
        stack.push_async_callback(calls.close)
        await stack.enter_async_context(_serving_siblings(siblings, server))
        background = [numbers.run(), _close_idle(server, relay), streams.run(), calls.run()]
        background += [o.run() for o in (requests, traces, store) if o is not None]
        if keep_fleet_file is not None:
            background.append(_keep(keep_fleet_file))
        if keys is not None:
            background.append(_reload_keys(keys, settings.access.reload_seconds))
        await stack.enter_async_context(_running(background))
        await server.serve(listeners)


@contextlib.asynccontextmanager
async def _serving_siblings(siblings: Siblings, server: DrainingServer) -> AsyncIterator[None]:
    """Let the other processes of this gateway ask for what lives in this one, while the block runs."""
    path = siblings.own_socket
    if path is None:
        yield
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    config = server.config
    config.load()
    loop = asyncio.get_running_loop()

    def connection() -> asyncio.Protocol:
        return config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=server.server_state, app_state={}, _loop=loop
        )

    listener = await loop.create_unix_server(connection, path)
    try:
        yield
    finally:
        listener.close()
        await listener.wait_closed()


@contextlib.asynccontextmanager
async def _running(coroutines: list) -> AsyncIterator[None]:  # type: ignore[type-arg]
    """Run `coroutines`, which never end, while the block runs; a broken one is logged."""

    def report(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a background task broke", task=task.get_name(), exc_info=error)

    tasks = [asyncio.create_task(c, name=c.__qualname__) for c in coroutines]
    for task in tasks:
        task.add_done_callback(report)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _reload_keys(keys: KeyRing, interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        keys.reload_if_changed()


async def _keep(keep_fleet_file: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(_RELOAD_SECONDS)
        await asyncio.to_thread(keep_fleet_file)


async def _close_idle(server: DrainingServer, relay: Relay) -> None:
    while True:
        await asyncio.sleep(_IDLE_SWEEP_SECONDS)
        now = relay.now()
        for connection in list(server.server_state.connections):
            if isinstance(connection, Front):
                connection.close_if_idle(now)


class DrainingServer(uvicorn.Server):
    """uvicorn's server whose end is: not ready any more, no new connections, running answers, the rest."""

    def __init__(self, config: uvicorn.Config, relay: Relay, context: GatewayContext) -> None:
        super().__init__(config)
        self._relay = relay
        self._context = context

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._context.draining = True
        running = len(self._relay.exchanges)
        log.info("draining", running=running, seconds=self._relay.settings.drain_seconds if running else 0)
        drain = asyncio.create_task(self._relay.drain())
        await super().shutdown(sockets)
        await drain

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but the process ends with status 0: being told to stop is no failure."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
