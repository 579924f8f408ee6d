"""One try of a call at one worker: connect, send, and hand what comes back to the exchange."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from gateway.relay.breaker import CircuitBreaker
from gateway.relay.heads import request_head
from gateway.relay.upstream import ResponseHead, UpstreamConnection
from gateway.routing.assignment import Assignment, Outcome
from gateway.routing.fleet import Worker

if TYPE_CHECKING:
    from gateway.relay.exchange import Exchange


_BLAMED = frozenset((502, 503, 504))
"""Statuses that say that the worker cannot serve. A 500 may be this one request's doing: a poisonous request
must not shut its worker out."""


class Attempt(msgspec.Struct, eq=False):
    """Owns a place at the worker (the assignment) and a connection until `close` or the hand-over.

    Implements `upstream.Receiver` for everything up to the first byte of the answer; after that the exchange
    receives by itself. Only the first six fields are given.
    """

    exchange: Exchange
    assignment: Assignment
    worker: Worker
    breaker: CircuitBreaker
    _trial: int | None
    """What `breaker.sent` said; None once the breaker has had its verdict."""
    started: float
    _opening: asyncio.Task[None] | None = None
    connection: UpstreamConnection | None = None
    head: ResponseHead | None = None
    open: bool = True
    asked_to_leave: bool = False
    """Whether another worker may do it was considered, because this one is not ready any more."""
    sent_at: float = 0.0
    """0 until the request has been written."""

    def connect(self) -> None:
        """Open a connection, and send the request over it."""
        self._opening = self.exchange.relay.pool.open(self.worker, self._opened)

    def close(self, outcome: Outcome, now: float) -> None:
        """End the attempt wherever it is; the worker sees the disconnect and aborts its work."""
        if not self.open:
            return
        self.open = False
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self.connection is not None:
            self.connection.abandon()
            self.connection = None
        if self._trial is not None:
            self.breaker.abandoned(self._trial)
            self._trial = None
        self.assignment.finish(now, outcome)
        self.exchange.relay.place_freed(self.worker)

    def blame(self, now: float, *, refused: bool = False) -> None:
        """Tell the breaker that the worker failed this attempt."""
        if self._trial is not None:
            self.breaker.failed(now, self._trial, refused=refused)
            self._trial = None

    def _opened(self, result: UpstreamConnection | OSError) -> None:
        self._opening = None
        if isinstance(result, OSError):
            refused = isinstance(result, ConnectionRefusedError)
            self.blame(self.exchange.relay.now(), refused=refused)
            why = "connection refused" if refused else str(result)
            self.exchange.attempt_failed(self, "connect", f"worker {self.worker.id} cannot be reached: {why}")
        else:
            self.send(result, self.exchange.relay.now())
            self.exchange.attempt_connected(self)

    def send(self, connection: UpstreamConnection, now: float) -> None:
        """Send the request over `connection`, which is the attempt's own from here on."""
        relay = self.exchange.relay
        call = self.exchange.call
        envelope = call.envelope
        body = call.body
        worker = self.worker
        self.connection = connection
        self.sent_at = now
        url = worker.prefix + envelope.url if worker.prefix else envelope.url
        head = request_head(url, worker.authority, envelope.sent_on, relay.worker_headers(call), len(body))
        connection.send(self, head, body)

    # upstream.Receiver

    def on_head(self, head: ResponseHead) -> None:
        self.head = head
        status = head.status
        relay = self.exchange.relay
        trial = self._trial
        if trial is not None:
            self._trial = None
            if status not in _BLAMED:
                self.worker.answered_at = relay.now()
                self.breaker.succeeded(trial)
            else:
                self.breaker.failed(relay.now(), trial)
        if status in relay.settings.retries.statuses:
            self.exchange.attempt_refused(self, status)

    def on_events(self, framed: bytes) -> None:
        self.exchange.answer_with(self)
        self.exchange.on_events(framed)

    def on_last_events(self, framed: bytes) -> None:
        self.exchange.answer_with(self)
        self.exchange.on_last_events(framed)

    def on_whole(self, payload: bytes) -> None:
        assert self.head is not None
        self.exchange.answer_whole(self, self.head, payload)

    def on_body(self, payload: bytes) -> None:
        self.exchange.answer_with(self)
        self.exchange.on_body(payload)

    def on_unfinished(self, payload: bytes) -> None:
        self.exchange.answer_with(self)
        self.exchange.on_unfinished(payload)

    def on_end(self) -> None:
        self.exchange.answer_with(self)
        self.exchange.on_end()

    def on_lost(self, reason: str) -> None:
        connection, self.connection = self.connection, None
        stale = (
            connection is not None and connection.used > 1 and self.head is None and not connection.answering
        )
        if stale:
            # The worker closed a kept-alive connection as we wrote to it: it never saw the request.
            self.sent_at = 0.0
            self.started = self.exchange.relay.now()
            self.connect()
            return
        self.blame(self.exchange.relay.now())
        self.exchange.attempt_failed(self, "gone", f"worker {self.worker.id}: {reason}")
