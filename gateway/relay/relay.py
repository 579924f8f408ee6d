"""The data plane of one gateway process: what all its exchanges share, and the sweep over them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import structlog

from gateway.access.keys import Key
from gateway.errors import Unavailable
from gateway.relay import deadlines
from gateway.relay.accounting import AccessRecord, Accounting
from gateway.relay.breaker import Breakers
from gateway.relay.call import Admitter, Call, Keys
from gateway.relay.client import Client
from gateway.relay.ending import Endings
from gateway.relay.exchange import Exchange
from gateway.relay.pool import Pool
from gateway.relay.retry import HedgeDelay, RetryBudget
from gateway.relay.settings import RelaySettings
from gateway.relay.waiting import WaitingRoom
from gateway.routing.assignment import Router
from gateway.routing.fleet import Fleet, Worker

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 0.2


@dataclass(slots=True)
class Observers:
    """Who else wants to know; None costs nothing. They are told within `SWEEP_SECONDS`."""

    record: Callable[[AccessRecord], None] | None = None
    """Called once per finished call, if `wants` says so."""
    wants: Callable[[int, str], bool] | None = None
    """Is the record of a call with this status and end worth making? None: of every call."""
    child_traceparent: Callable[[str | None], str] | None = None
    """Makes the trace context that goes to the worker."""


class OpenLogged(Protocol):
    def __call__(self, client: Client | None, call: Call, key: Key | None) -> Exchange:
        """An exchange that keeps its answer (`call.log` says how), not started; raises GatewayError."""


class Relay:
    """Create inside the running loop, `start`, and `stop` when every exchange has ended."""

    def __init__(
        self,
        settings: RelaySettings,
        fleet: Fleet,
        router: Router,
        breakers: Breakers,
        accounting: Accounting,
        keys: Keys | None = None,
        observers: Observers | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        observers = observers or Observers()
        self.loop = loop
        self.now = time.monotonic  # the time of uvloop stands still within a millisecond
        self.epoch = time.time() - time.monotonic()
        """Add it to `now()` for the time of day."""
        self.settings = settings
        self.fleet = fleet
        self.router = router
        self.breakers = breakers
        self.accounting = accounting
        self.open_logged: OpenLogged | None = None
        """Makes exchanges whose answer is kept; None where nothing is."""
        self._child_traceparent = observers.child_traceparent
        self.admitter = Admitter(settings, keys, self._only_model)
        self.pool = Pool(loop, settings.limits.event_bytes)
        self.waiting: WaitingRoom[Exchange] = WaitingRoom(settings.admission.queue)
        self.budget = RetryBudget(settings.retries)
        self.hedge_delay = HedgeDelay(settings.hedging) if settings.hedging.enabled else None
        self.endings = Endings(accounting, self.hedge_delay, observers.record, observers.wants)
        self.exchanges: dict[Exchange, None] = {}
        """Those in progress, in the order they came."""
        accounting.open = self.exchanges
        self.draining = False
        """Nothing new is taken, and connections end behind their answers."""
        self._drained = asyncio.Event()
        self._sweeper: asyncio.Task[None] | None = None
        self._id_prefix = os.urandom(8).hex().encode()
        self._ids = count(1)
        self.worker_authorization = (
            b"authorization: Bearer %b\r\n" % settings.worker_api_key.encode()
            if settings.worker_api_key
            else b""
        )
        fleet.subscribe(self.pool.forget)
        fleet.subscribe(self._limit_worker)
        for worker in fleet:
            self._limit_worker("joined", worker)

    def start(self) -> None:
        self._sweeper = self.loop.create_task(self._sweep_forever())

    async def stop(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        for exchange in list(self.exchanges):
            exchange.client_gone("drained")
        self.endings.settle()
        self.pool.close()

    async def drain(self) -> None:
        """No more retries or keep-alive; wait for running answers, then end the rest with an error."""
        self.draining = True
        if self.exchanges:
            try:
                await asyncio.wait_for(self._drained.wait(), self.settings.drain_seconds)
            except TimeoutError:
                for exchange in list(self.exchanges):
                    exchange.fail(
                        Unavailable("The gateway is shutting down.", code="shutting_down"), "drained"
                    )

    # for exchanges and connections

    def new_request_id(self) -> bytes:
        return b"%b%08x" % (self._id_prefix, next(self._ids))

    def enter(self, exchange: Exchange) -> None:
        self.exchanges[exchange] = None
        self.budget.request(exchange.started)

    def leave(self, exchange: Exchange) -> None:
        self.exchanges.pop(exchange, None)
        if self.draining and not self.exchanges:
            self._drained.set()

    def place_freed(self, worker: Worker) -> None:
        """A request at `worker` ended: whoever waits longest may have its place."""
        if not self.waiting.queues or self.fleet.workers.get(worker.id) is not worker:
            return  # nobody waits, or the worker has left the fleet and gets nothing new
        while worker.accepting:
            exchange = self.waiting.next(worker.models)
            if exchange is None:
                return
            exchange.place_offered()

    def is_full(self, model: str, exclude: frozenset[str]) -> bool:
        """Is some healthy worker for `model` only too busy, so that waiting makes sense?

        One whose half-open breaker has its trial out counts: that is decided in a moment.
        """
        return any(
            model in w.models
            and w.health == "ready"
            and w.id not in exclude
            and (w.breaker != "open" or self.breakers.of(w).state == "trial")
            for w in self.fleet
        )

    def can_serve(self, model: str, exclude: frozenset[str]) -> bool:
        return any(w.id not in exclude for w in self.fleet.serving(model))

    def worker_headers(self, call: Call) -> bytes:
        """Header lines of ours on the way to a worker."""
        lines = b"%bx-request-id: %b\r\n" % (self.worker_authorization, call.request_id)
        traceparent = call.envelope.wishes.traceparent
        if self._child_traceparent is not None:
            child = self._child_traceparent(call.sent_traceparent or traceparent)
            call.sent_traceparent = child
            lines += b"traceparent: %b\r\n" % child.encode()
        elif traceparent is not None:
            lines += b"traceparent: %b\r\n" % traceparent.encode("latin-1")
        return lines

    # inside

    def _only_model(self) -> str | None:
        models = self.fleet.models()
        return next(iter(models)) if len(models) == 1 else None

    def _limit_worker(self, event: str, worker: Worker) -> None:
        if event == "joined":
            worker.max_in_flight = self.settings.admission.per_worker

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep(self.now())

    def sweep(self, now: float) -> None:
        """Deadlines, breakers, idle connections, and places that became free by other ways."""
        self.breakers.tick(now)
        self.endings.settle()
        for exchange in list(self.exchanges):
            try:
                deadlines.check(exchange, now)
            except Exception:
                # One broken exchange must not stop the clock of all others.
                log.exception("an exchange broke", request_id=exchange.call.request_id.decode("latin-1"))
                exchange.client.abort()
                exchange.client_gone("gateway_error")
        if self.hedge_delay is not None:
            self.hedge_delay.update()
        if self.waiting.queues:
            for worker in list(self.fleet):
                self.place_freed(worker)
        self.accounting.queued = len(self.waiting)
        self.pool.sweep(now)
