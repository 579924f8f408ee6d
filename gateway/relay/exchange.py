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
from gateway.relay.accounting import ITL_BUCKETS, Histogram
from gateway.relay.attempt import Attempt
from gateway.relay.call import Call
from gateway.relay.client import Client
from gateway.relay.framing import LAST_CHUNK, ChunkedReader, Framing, chunk
from gateway.relay.heads import answer_lines, error_response, response_head
from gateway.relay.passed import Passed
from gateway.relay.sse import PING, USAGE_KEY, USAGE_WINDOW, Usage, error_event, has_end, has_error
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
from gateway.relay.upstream import ResponseHead
from gateway.relay.waiting import RoomFull
from gateway.routing.assignment import Assignment, NoWorkerError, Outcome, RouteRequest, UnknownPolicyError

if TYPE_CHECKING:
    from gateway.relay.relay import Relay


PING_CHUNK = chunk(PING)
TAIL_BYTES = 64 * 1024
"""Of an answer that is over: so much is kept until its usage has been read."""
_NOWHERE = RouteRequest("", b"", b"")
_NOTHING = Passed(Histogram(ITL_BUCKETS), 0.0)
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
    winner: Attempt | None = None
    """The one whose answer is shown."""
    attempts: int = 0
    failed_on: frozenset[str] = frozenset()
    last_error: GatewayError | None = None
    queued_at: float = 0.0
    queue_seconds: float = 0.0
    connect_seconds: float = 0.0
    route_seconds: float = 0.0
    last_ping: float = 0.0
    stalled_since: float = 0.0
    """Since when the client has not taken what was written; 0 while it does."""
    status: int = 0
    passed: Passed = _NOTHING
    """Of an answer that comes in pieces."""
    response_bytes: int = 0
    """Once it is done."""
    usage: Usage = msgspec.field(default_factory=Usage)
    """What the engine counted, once that has been read; zeros where the answer broke off before."""
    end: str = ""
    """By END_REASONS, once it is done."""
    ended: float = 0.0
    _framing: Framing = Framing.NONE
    _dechunk: ChunkedReader | None = None
    _first: float = 0.0
    _prefix: bytes = b""
    """The answer's head until something follows it."""
    _closing: bool = False
    """The end is known to follow: what is written waits for it."""
    _plain: bool = False
    """Events are written as they are: the head is out and the client speaks HTTP/1.1."""
    _tail: bytes = b""
    """The end of what the worker said, once it is done."""
    _usage_events: list[bytes] = []

    def _to(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise IllegalTransition(f"{self.state.name} -> {state.name}")
        self.state = state

    # admission and routing

    def start(self) -> None:
        relay = self.relay
        call = self.call
        self.request_bytes = len(call.body)
        relay.enter(self)
        if relay.waiting.queues and relay.waiting.waits_for(call.model):
            self._queue()
        else:
            self._route(self.started)

    def place_offered(self) -> None:
        """It waited, and a worker has a place now."""
        now = self.relay.now()
        self.queue_seconds += now - self.queued_at
        self.relay.accounting.queue_wait.observe(now - self.queued_at)
        self._route(now)

    def _route(self, now: float) -> None:
        relay = self.relay
        try:
            assignment = relay.router.assign(self.call.route, now, self.failed_on)
        except NoWorkerError as error:
            self._nobody(error)
            return
        except UnknownPolicyError as error:
            self.fail(InvalidRequest(str(error), code="unknown_policy", param="x-sluice-policy"), "refused")
            return
        self.attempts += 1
        routed = relay.now()
        self.route_seconds += routed - now
        self.attempt = attempt = self._try(assignment, routed)
        self._to(SENT if attempt.sent_at else ROUTED)

    def _try(self, assignment: Assignment, now: float) -> Attempt:
        """Send the call where `assignment` says, over a connection that is idle or a new one."""
        relay = self.relay
        worker = assignment.worker
        breaker = relay.breakers.of(worker)
        attempt = Attempt(self, assignment, worker, breaker, breaker.sent(), now)
        connection = relay.pool.take(worker)
        if connection is not None:
            attempt.send(connection, now)
        else:
            attempt.connect()
        return attempt

    def _nobody(self, error: NoWorkerError) -> None:
        if error.unknown_model:
            self.fail(
                NotFound(
                    f"The model '{self.call.model}' does not exist; GET /v1/models lists what is served.",
                    code="model_not_found",
                    param="model",
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

    def attempt_connected(self, attempt: Attempt) -> None:
        """Its request is written over a fresh connection."""
        if attempt is self.attempt and self.state is ROUTED:
            self.connect_seconds += attempt.sent_at - attempt.started
            self._to(SENT)

    def attempt_refused(self, attempt: Attempt, status: int) -> None:
        """The head came, and another worker may do better: it is not shown if another may be asked."""
        if not self._left_to_other(attempt) and self._may_retry(attempt):
            self.last_error = UpstreamFailed(f"worker {attempt.worker.id} answered with status {status}")
            self._attempt_over(attempt)
            self._again("status")

    def attempt_failed(self, attempt: Attempt, cause: str, message: str) -> None:
        """It broke before the first byte of an answer: another try if the budget allows, else the truth."""
        if attempt is self.winner:
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
        self._route(self.relay.now())

    # the answer

    def answer_whole(self, attempt: Attempt, head: ResponseHead, payload: bytes) -> None:
        """`attempt` has the whole answer, which is no stream: shown and over in one step."""
        now = self.relay.now()
        self.winner = attempt
        if self.hedge is not None:
            self._end_other(attempt, now)
        self._first = now
        attempt.assignment.first_byte(now)
        self.status = status = head.status
        self.response_bytes = len(payload)
        self._tail = payload[-TAIL_BYTES:]
        self.client.write(self._head_of(attempt, head, now) + payload)
        self._end("ok" if status < 500 else "worker_error", now)

    def answer_with(self, attempt: Attempt, *, content: bool = True) -> None:
        """`attempt` has something to show: from here on it is the answer, and nothing is repeated.

        Without `content` that is only the head, shown early to keep the client patient. It is written
        together with what follows it, in one system call.
        """
        relay = self.relay
        now = relay.now()
        head = attempt.head
        assert head is not None
        self.winner = attempt
        if self.hedge is not None:
            self._end_other(attempt, now)
        if self.state is ROUTED:
            self._to(SENT)
        self._to(ANSWERING)
        # Nothing is sent again: a stream that stays open for long need not hold its request.
        self.call.body, self.call.route = b"", _NOWHERE
        self.passed = Passed(relay.accounting.of(attempt.worker.id, self.call.model).itl, now)
        if content:
            self._content_began(now)
        self.status = head.status
        client = self.client
        self._framing = head.framing if head.framing is not Framing.CLOSE else Framing.CHUNKED
        if head.events:
            self._framing = Framing.CHUNKED
        if self._framing is Framing.CHUNKED and not client.http11:
            client.keep_alive = False
            self._dechunk = ChunkedReader()
        if attempt.connection is not None and attempt.connection.receiver is attempt:
            attempt.connection.receiver = self
        self._prefix = self._head_of(attempt, head, now)
        if self.stalled_since and attempt.connection is not None:
            attempt.connection.transport.pause_reading()

    def _end_other(self, winner: Attempt, now: float) -> None:
        """Of two attempts only `winner` goes on."""
        if winner is self.hedge:
            self.relay.accounting.hedges_won += 1
            self.hedge, self.attempt = self.attempt, winner
        if self.hedge is not None:
            self.hedge.close("aborted", now)
            self.hedge = None

    def _head_of(self, attempt: Attempt, head: ResponseHead, now: float) -> bytes:
        """The head that the client is shown."""
        client = self.client
        ours = answer_lines(
            self.call.answer_headers,
            attempt.worker.id,
            attempt.assignment.reason,
            self.queue_seconds,
            self.connect_seconds,
            self.route_seconds,
            now - attempt.sent_at,
        )
        return response_head(head, ours, client.http11, client.keep_alive)

    def _content_began(self, now: float) -> None:
        winner = self.winner
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
        self.hedge = self._try(assignment, now)

    @property
    def is_event_stream(self) -> bool:
        return self.winner is not None and self.winner.head is not None and self.winner.head.events

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
        passed = self.passed
        if passed.events:
            gap = now - passed.at
            gaps = passed.gaps
            gaps.counts[bisect_left(ITL_BUCKETS, gap)] += 1
            gaps.total += gap
        elif not self._first:
            self._content_began(now)
        passed.events += 1
        passed.at = now
        passed.previous = passed.last
        passed.last = framed
        passed.size += len(framed)
        # `in` would raise and drop an exception first, to find out that the key is no number.
        if (start := framed.rfind(USAGE_KEY)) >= 0:
            self._keep_usage(framed, start)
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
        raise IllegalTransition("a second answer")

    def on_body(self, payload: bytes) -> None:
        passed = self.passed
        passed.at = self.relay.now()
        passed.size += len(payload)
        passed.previous = passed.last
        passed.last = payload
        if self._framing is Framing.CHUNKED and self._dechunk is None:
            payload = chunk(payload)
        self._write(payload)

    def on_unfinished(self, payload: bytes) -> None:
        """Passed on if only its blank line is missing; else dropped, as SSE clients do, since what comes
        next, an error event, must not be glued to it."""
        if self.status != 200 or has_end(self.call.envelope.family, payload + b"\n"):
            self.on_events(chunk(payload))

    def _write(self, data: bytes) -> None:
        if self._prefix:
            data, self._prefix = self._prefix + data, b""
        if self._closing:
            self._prefix = data
        else:
            self.client.write(data)

    def on_end(self) -> None:
        winner = self.winner
        assert winner is not None and winner.head is not None
        if winner.head.events and winner.head.status == 200:
            tail = self.passed.tail()
            if not has_end(self.call.envelope.family, tail):
                self._release_connection(self.relay.now())
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
        self._end(end, self.relay.now())

    def _end(self, end: str, now: float) -> None:
        """Everything was written."""
        self._release_connection(now)
        keep_alive = self.client.keep_alive
        self._done(end, "ok" if end == "ok" else "failed")
        self.client.answered(keep_alive)

    def on_lost(self, reason: str) -> None:
        winner = self.winner
        assert winner is not None
        self._break_off(UpstreamFailed(f"worker {winner.worker.id}: {reason}"), "worker_gone")

    def _release_connection(self, now: float) -> None:
        winner = self.winner
        if winner is not None and (connection := winner.connection) is not None:
            winner.connection = None
            if self.stalled_since and connection.alive:
                connection.transport.resume_reading()
            self.relay.pool.give_back(connection, now)

    def _keep_usage(self, framed: bytes, start: int) -> None:
        """The usage objects of the first and the last event with one: some families report the prompt early,
        the rest late."""
        kept = self._usage_events
        if len(kept) < 2:
            kept.append(framed[start : start + USAGE_WINDOW])
        else:
            kept[1] = framed[start : start + USAGE_WINDOW]

    def read_usage(self) -> None:
        """Find what the engine counted in what is left of the answer."""
        if self._usage_events:
            for event in self._usage_events:
                self.usage.read(event)
        elif self.end == "ok":
            self.usage.read(self._tail)

    @property
    def ttft(self) -> float:
        """Seconds to the first content; 0 if there was none."""
        return self._first - self.started if self._first else 0.0

    # ends

    def fail(self, error: GatewayError, end: str) -> None:
        """End the call with an error: as a response if nothing was sent yet, else inside the stream."""
        if self.state is DONE:
            return
        if self.state is ANSWERING:
            self._break_off(error, end)
            return
        self.status = error.status
        keep_alive = self.client.keep_alive
        family = self.call.envelope.family
        response = error_response(error, family, self.call.answer_headers, keep_alive)
        if self.attempts == 0:
            self.relay.accounting.refusals[error.code] += 1
        self._done(end, "failed")
        self.client.write(response)
        self.client.answered(keep_alive)

    def _break_off(self, error: GatewayError, end: str) -> None:
        """The answer cannot be completed after it began."""
        winner = self.winner
        assert winner is not None and winner.head is not None
        self._closing = False
        if winner.head.events:
            event = error_event(self.call.envelope.family, error, self.passed.last)
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
            if self.winner is not None and self.winner.connection is not None:
                self.winner.connection.transport.pause_reading()

    def client_resumed(self) -> None:
        if self.stalled_since:
            self.stalled_since = 0.0
            if self.state is ANSWERING:
                self.passed.at = self.relay.now()
            if self.winner is not None and self.winner.connection is not None:
                self.winner.connection.transport.resume_reading()

    def _done(self, end: str, outcome: Outcome) -> None:
        relay = self.relay
        now = relay.now()
        if self.state is QUEUED:
            relay.waiting.leave(self)
        self._to(DONE)
        relay.leave(self)
        winner = self.winner
        if self.attempt is not winner or self.hedge is not None:
            for attempt in (self.attempt, self.hedge):
                if attempt is not None and attempt is not winner:
                    attempt.close(outcome, now)
            self.hedge = None
        if winner is not None and winner.open:
            winner.open = False
            if winner.connection is not None:
                winner.connection.abandon()
                winner.connection = None
            winner.assignment.finish(now, outcome)
            if relay.waiting.queues:
                relay.place_freed(winner.worker)
        self.end = end
        self.ended = now
        # It waits until it is counted, without what only an open call needs.
        call = self.call
        call.body, call.route = b"", _NOWHERE
        if self.passed is not _NOTHING:
            self.response_bytes = self.passed.size
            self._tail = self.passed.tail()[-TAIL_BYTES:]
            self.passed.last = self.passed.previous = b""
        relay.endings.add(self)
