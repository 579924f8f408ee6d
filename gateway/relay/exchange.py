"""The life of one call, from admission to its true end; `states` has the table of its states.

Nothing has reached the client before `answering`: until then a failed attempt may be repeated elsewhere.
Afterwards a failure is told in the stream, in the form of the API family, and never looks like an end.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, ClassVar

import msgspec

from gateway.errors import (
    GatewayError,
    InvalidRequest,
    NotFound,
    RateLimited,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from gateway.relay import ending
from gateway.relay.accounting import ITL_BUCKETS, Histogram
from gateway.relay.attempt import Attempt
from gateway.relay.call import Call
from gateway.relay.client import Client
from gateway.relay.framing import LAST_CHUNK, ChunkedReader, Framing, chunk
from gateway.relay.heads import error_response, response_head, server_timing
from gateway.relay.sse import PING, USAGE_KEY, Usage, error_event, has_end, has_error
from gateway.relay.states import (
    ADMITTED,
    ANSWERING,
    DONE,
    QUEUED,
    ROUTED,
    SENT,
    TRANSITIONS,
    IllegalTransition,
    State,
)
from gateway.relay.upstream import ResponseHead, UpstreamConnection
from gateway.relay.waiting import RoomFull
from gateway.routing.assignment import NoWorkerError, Outcome, RouteRequest, UnknownPolicyError

if TYPE_CHECKING:
    from gateway.relay.relay import Relay


PING_CHUNK = chunk(PING)
_TAIL_BYTES = 64 * 1024
_NOWHERE = RouteRequest("", b"", b"")
_NO_GAPS = Histogram(ITL_BUCKETS)
"""Stands in until the answer has begun; nothing is counted in it."""


class Exchange(msgspec.Struct, eq=False):
    """One call. Only the first four fields are given; the rest is what happens to it."""

    early_head: ClassVar[float | None] = None
    """After how many seconds without an event the answer's head is shown; None: when a ping is due."""

    relay: Relay
    client: Client
    call: Call
    started: float
    request_bytes: int = 0
    state: State = ADMITTED
    attempt: Attempt | None = None
    hedge: Attempt | None = None
    attempts: int = 0
    failed_on: frozenset[str] = frozenset()
    last_error: GatewayError | None = None
    queued_at: float = 0.0
    queue_seconds: float = 0.0
    connect_seconds: float = 0.0
    route_seconds: float = 0.0
    last_activity: float = 0.0
    """When the last piece came from the worker."""
    last_ping: float = 0.0
    stalled_since: float = 0.0
    """Since when the client has not taken what was written; 0 while it does."""
    status: int = 0
    response_bytes: int = 0
    events: int = 0
    _winner: Attempt | None = None
    _itl: Histogram = _NO_GAPS
    _framing: Framing = Framing.NONE
    _dechunk: ChunkedReader | None = None
    _first: float = 0.0
    _prefix: bytes = b""
    """The answer's head until something follows it."""
    _closing: bool = False
    """The end is known to follow: what is written waits for it."""
    _plain: bool = False
    """Events are written as they are: the head is out and the client speaks HTTP/1.1."""
    _last: bytes = b""
    _previous: bytes = b""
    _usage_events: list[bytes] = []

    def __post_init__(self) -> None:
        self.request_bytes = len(self.call.body)
        self.last_activity = self.started

    def _to(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise IllegalTransition(f"{self.state.name} -> {state.name}")
        self.state = state

    # admission and routing

    def start(self) -> None:
        relay = self.relay
        relay.enter(self)
        if len(relay.waiting) and relay.waiting.waits_for(self.call.model):
            self._queue()
        else:
            self._route()

    def place_offered(self) -> None:
        """It waited, and a worker has a place now."""
        now = self.relay.now()
        self.queue_seconds += now - self.queued_at
        self.relay.accounting.queue_wait.observe(now - self.queued_at)
        self._route()

    def _route(self) -> None:
        relay = self.relay
        now = relay.now()
        try:
            assignment = relay.router.assign(self.call.route, now, self.failed_on)
        except NoWorkerError as error:
            self._nobody(error)
            return
        except UnknownPolicyError as error:
            self.fail(InvalidRequest(str(error), code="unknown_policy", param="x-sluice-policy"), "refused")
            return
        self._to(ROUTED)
        self.attempts += 1
        routed = relay.now()
        self.route_seconds += routed - now
        self.attempt = attempt = Attempt(self, assignment, routed)
        attempt.start()

    def _nobody(self, error: NoWorkerError) -> None:
        if error.unknown_model:
            self.fail(
                NotFound(
                    f"The model '{self.call.model}' does not exist.", code="model_not_found", param="model"
                ),
                "refused",
            )
        elif self.last_error is not None:
            self.fail(self.last_error, "worker_gone")
        elif self.relay.is_full(self.call.model, self.failed_on):
            self._queue()
        else:
            self.fail(Unavailable(f"{error}.", retry_after=2), "refused")

    def _queue(self) -> None:
        relay = self.relay
        try:
            relay.waiting.enter(self, self.call.model, self.call.priority)
        except RoomFull:
            self.fail(
                RateLimited(
                    f"Every worker is busy and {len(relay.waiting)} requests are waiting already; "
                    "try again later.",
                    retry_after=relay.settings.timeouts.queue / 4,
                ),
                "refused",
            )
            return
        self._to(QUEUED)
        self.queued_at = relay.now()

    # what attempts report

    def attempt_sent(self, attempt: Attempt) -> None:
        if attempt is self.attempt and self.state is ROUTED:
            self.connect_seconds += attempt.sent_at - attempt.started
            self._to(SENT)

    def attempt_answered(self, attempt: Attempt, head: ResponseHead) -> None:
        """The head came. A status that another worker may do better is not shown if another may be asked."""
        if head.status not in self.relay.settings.retries.statuses or self._left_to_other(attempt):
            return
        if self._may_retry(attempt):
            self.last_error = UpstreamFailed(f"worker {attempt.worker.id} answered with status {head.status}")
            self._attempt_over(attempt)
            self._again("status")

    def attempt_failed(self, attempt: Attempt, cause: str, message: str) -> None:
        """It broke before the first byte of an answer: another try if the budget allows, else the truth."""
        if attempt is self._winner:
            self._break_off(UpstreamFailed(message), "worker_gone")
            return
        self.last_error = UpstreamTimeout(message) if cause == "timeout" else UpstreamFailed(message)
        if self._left_to_other(attempt):
            return
        may_retry = self._may_retry(attempt)
        self._attempt_over(attempt)
        if may_retry:
            self._again(cause)
        else:
            self.fail(self.last_error, "timeout_connect" if cause == "timeout" else "worker_gone")

    def leave_unready(self, attempt: Attempt) -> None:
        """The worker has stopped answering its health checks, and nothing has come: ask another one, if there
        is one and the budget allows it. If not, waiting on is better than an error: it may recover."""
        if attempt.head is None and self.hedge is None and self._may_retry(attempt):
            self.last_error = UpstreamFailed(f"worker {attempt.worker.id} {attempt.worker.message}")
            self._attempt_over(attempt)
            self._again("unready")

    def _left_to_other(self, attempt: Attempt) -> bool:
        """If two attempts run, end `attempt` and let the other one go on."""
        other = self.hedge if attempt is self.attempt else self.attempt
        if other is None:
            return False
        self._attempt_over(attempt)
        self.attempt, self.hedge = other, None
        if self.state is ROUTED and other.sent_at:
            self._to(SENT)
        return True

    def _attempt_over(self, attempt: Attempt) -> None:
        self.failed_on |= {attempt.worker.id}
        attempt.close("failed", self.relay.now())

    def _may_retry(self, failed: Attempt) -> bool:
        relay = self.relay
        if self.attempts >= relay.settings.retries.attempts or self.state > SENT or relay.draining:
            return False
        if not relay.can_serve(self.call.model, self.failed_on | {failed.worker.id}):
            return False
        if not relay.budget.take(relay.now()):
            relay.accounting.retries_denied += 1
            return False
        return True

    def _again(self, cause: str) -> None:
        self.relay.accounting.retries[cause] += 1
        self._route()

    # the answer

    def answer_with(self, attempt: Attempt, *, content: bool = True) -> None:
        """`attempt` has something to show: from here on it is the answer, and nothing is repeated.

        Without `content` that is only the head, shown early to keep the client patient. It is written
        together with what follows it, in one system call.
        """
        relay = self.relay
        now = relay.now()
        head = attempt.head
        assert head is not None
        if attempt is self.hedge:
            relay.accounting.hedges_won += 1
            self.hedge, self.attempt = self.attempt, attempt
        if self.hedge is not None:
            self.hedge.close("aborted", now)
        self.hedge = None
        self._winner = attempt
        if self.state is ROUTED:
            self._to(SENT)
        self._to(ANSWERING)
        # Nothing is sent again: a stream that stays open for long need not hold its request.
        self.call.body, self.call.sent_on, self.call.route = b"", b"", _NOWHERE
        self.last_activity = now
        if content:
            self._content_began(now)
        self.status = head.status
        self._itl = relay.accounting.of(attempt.worker.id, self.call.model).itl
        client = self.client
        self._framing = head.framing if head.framing is not Framing.CLOSE else Framing.CHUNKED
        if head.events:
            self._framing = Framing.CHUNKED
        if self._framing is Framing.CHUNKED and not client.http11:
            client.keep_alive = False
            self._dechunk = ChunkedReader()
        if attempt.connection is not None and attempt.connection.receiver is attempt:
            attempt.connection.receiver = self
        extra = b"%bx-sluice-worker: %b\r\nx-sluice-route: %b\r\nserver-timing: %b\r\n" % (
            self.call.answer_headers,
            attempt.worker.id.encode(),
            attempt.assignment.reason.encode(),
            server_timing(
                self.queue_seconds, self.connect_seconds, self.route_seconds, now - attempt.sent_at
            ),
        )
        self._prefix = response_head(head, extra, client.http11, client.keep_alive)
        if self.stalled_since and attempt.connection is not None:
            attempt.connection.transport.pause_reading()

    def _content_began(self, now: float) -> None:
        winner = self._winner
        assert winner is not None
        self._first = now
        winner.assignment.first_byte(now)

    @property
    def awaits_content(self) -> bool:
        """Has the worker sent no more than the head of its answer?"""
        return not self._first

    def hedge_now(self) -> None:
        """The first byte is late: ask a second worker, if there is one and the budget allows it."""
        relay = self.relay
        first = self.attempt
        now = relay.now()
        if first is None or not relay.can_serve(self.call.model, self.failed_on | {first.worker.id}):
            return
        if not relay.budget.take(now):
            relay.accounting.retries_denied += 1
            return
        try:
            assignment = relay.router.assign(self.call.route, now, self.failed_on | {first.worker.id})
        except NoWorkerError:
            return
        relay.accounting.hedges += 1
        self.attempts += 1
        self.hedge = Attempt(self, assignment, now)
        self.hedge.start()

    @property
    def is_event_stream(self) -> bool:
        return self._winner is not None and self._winner.head is not None and self._winner.head.events

    def ping(self) -> None:
        """Show the client that the answer is alive, between two events."""
        self._write(PING_CHUNK if self._dechunk is None else PING)
        self.last_ping = self.relay.now()

    # upstream.Receiver, once the answer has begun

    def on_head(self, head: ResponseHead) -> None:
        raise IllegalTransition("a second head in one answer")

    def on_events(self, framed: bytes) -> None:
        """The hot path: once per read of a stream."""
        now = self.relay.now()
        if self.events:
            gap = now - self.last_activity
            itl = self._itl
            itl.counts[bisect_left(ITL_BUCKETS, gap)] += 1
            itl.total += gap
        elif not self._first:
            self._content_began(now)
        self.events += 1
        self.last_activity = now
        self._previous = self._last
        self._last = framed
        if USAGE_KEY in framed:
            self._keep_usage(framed)
        self.response_bytes += len(framed)
        if self._plain:
            self.client.write(framed)
        else:
            self._write(framed if self._dechunk is None else self._dechunk.feed(framed))
            self._plain = self._dechunk is None and not self._closing

    def on_last_events(self, framed: bytes) -> None:
        """Kept back, to be written with the end of the body in one system call."""
        self._plain = False
        self._closing = True
        self.on_events(framed)

    def on_whole(self, payload: bytes) -> None:
        winner = self._winner
        assert winner is not None
        self.response_bytes = len(payload)
        self._last = payload
        self.client.write(self._prefix + payload)
        self._end("ok" if self.status < 500 else "worker_error")

    def on_body(self, payload: bytes) -> None:
        self.last_activity = self.relay.now()
        self.response_bytes += len(payload)
        self._previous = self._last
        self._last = payload
        if self._framing is Framing.CHUNKED and self._dechunk is None:
            payload = chunk(payload)
        self._write(payload)

    def on_unfinished(self, payload: bytes) -> None:
        """Passed on if only its blank line is missing; else dropped, as SSE clients do, since what comes
        next, an error event, must not be glued to it."""
        if self.status != 200 or has_end(self.call.family, payload + b"\n"):
            self.on_events(chunk(payload))

    def _write(self, data: bytes) -> None:
        if self._prefix:
            data, self._prefix = self._prefix + data, b""
        if self._closing:
            self._prefix = data
        else:
            self.client.write(data)

    def on_end(self) -> None:
        winner = self._winner
        assert winner is not None and winner.head is not None
        if winner.head.events and winner.head.status == 200:
            tail = self._previous + self._last
            if not has_end(self.call.family, tail):
                self._release_connection()
                self._break_off(
                    UpstreamFailed(f"worker {winner.worker.id} ended the stream without an end marker"),
                    "bad_response",
                )
                return
            end = "worker_error" if has_error(tail) else "ok"
        else:
            end = "ok" if winner.head.status < 500 else "worker_error"
        self._closing = False
        if self._framing is Framing.CHUNKED and self._dechunk is None:
            self._write(LAST_CHUNK)
        elif self._prefix:
            self._write(b"")
        self._end(end)

    def _end(self, end: str) -> None:
        """Everything was written."""
        self._release_connection()
        keep_alive = self.client.keep_alive
        self._done(end, "ok" if end == "ok" else "failed")
        self.client.answered(keep_alive)

    def on_lost(self, reason: str) -> None:
        winner = self._winner
        assert winner is not None
        self._break_off(UpstreamFailed(f"worker {winner.worker.id}: {reason}"), "worker_gone")

    def _release_connection(self) -> None:
        winner = self._winner
        if winner is not None and winner.connection is not None:
            connection: UpstreamConnection = winner.connection
            winner.connection = None
            if self.stalled_since and connection.alive:
                connection.transport.resume_reading()
            self.relay.pool.give_back(connection, self.relay.now())

    def _keep_usage(self, framed: bytes) -> None:
        """First and last event with a usage object: some families report the prompt early, the rest late."""
        kept = self._usage_events
        if len(kept) < 2:
            kept.append(framed)
        else:
            kept[1] = framed

    # ends

    def fail(self, error: GatewayError, end: str) -> None:
        """End the call with an error: as a response if nothing was sent yet, else inside the stream."""
        if self.state is DONE:
            return
        if self.state is ANSWERING:
            self._break_off(error, end)
            return
        self.status = error.status
        response = error_response(error, self.call.family, self.call.answer_headers, self.client.keep_alive)
        keep_alive = self.client.keep_alive
        if self.attempts == 0:
            self.relay.accounting.refusals[error.code] += 1
        self._done(end, "failed")
        self.client.write(response)
        self.client.answered(keep_alive)

    def _break_off(self, error: GatewayError, end: str) -> None:
        """The answer cannot be completed after it began."""
        winner = self._winner
        assert winner is not None and winner.head is not None
        self._closing = False
        if winner.head.events:
            event = error_event(self.call.family, error, self._last)
            self._write(event if self._dechunk is not None else chunk(event) + LAST_CHUNK)
            self._done(end, "failed")
            self.client.answered(keep_alive=False)
        else:
            self._done(end, "failed")
            self.client.abort()

    def client_gone(self, end: str = "client_gone") -> None:
        """Nobody reads the answer any more: stop the work at once, wherever it is."""
        if self.state is not DONE:
            self._done(end, "aborted")

    def client_paused(self) -> None:
        """The client does not take what was written: stop reading from the worker."""
        if not self.stalled_since:
            self.stalled_since = self.relay.now()
            if self._winner is not None and self._winner.connection is not None:
                self._winner.connection.transport.pause_reading()

    def client_resumed(self) -> None:
        if self.stalled_since:
            self.stalled_since = 0.0
            self.last_activity = self.relay.now()
            if self._winner is not None and self._winner.connection is not None:
                self._winner.connection.transport.resume_reading()

    def _done(self, end: str, outcome: Outcome) -> None:
        relay = self.relay
        now = relay.now()
        if self.state is QUEUED:
            relay.waiting.leave(self)
        self._to(DONE)
        relay.leave(self)
        usage = Usage()
        if outcome == "ok" or self._usage_events:
            for event in self._usage_events or ((self._previous + self._last)[-_TAIL_BYTES:],):
                usage.read(event)
        winner = self._winner
        for attempt in (self.attempt, self.hedge):
            if attempt is not None and attempt is not winner:
                attempt.close(outcome, now)
        if winner is not None and winner.open:
            winner.open = False
            if winner.connection is not None:
                winner.connection.abandon()
                winner.connection = None
            winner.assignment.finish(
                now, outcome, usage.prompt_tokens, usage.cached_tokens, usage.output_tokens
            )
            relay.place_freed(winner.worker)
        worker = self.attempt.worker.id if self.attempt is not None else ""
        ttft = self._first - self.started if self._first else 0.0
        if worker:
            ending.account(self, worker, end, ttft, now, usage)
        if relay.record is not None and (relay.wants is None or relay.wants(self.status, end)):
            relay.record(ending.access_record(self, worker, end, ttft, now, usage))
        # An attempt knows its exchange: without this circle both are gone as soon as nobody needs them.
        self.attempt = self.hedge = self._winner = None
