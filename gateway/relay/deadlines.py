"""What is overdue in an exchange: checked by a sweep a few times a second, so that no timer costs a request.

Precision is the sweep's interval. Work per sweep is one comparison or two per open exchange.
"""

from __future__ import annotations

from gateway.errors import Unavailable, UpstreamTimeout
from gateway.relay.attempt import Attempt
from gateway.relay.exchange import Exchange
from gateway.relay.settings import Timeouts
from gateway.relay.states import ANSWERING, DONE, QUEUED


def check(exchange: Exchange, now: float) -> None:
    """Act on whatever is overdue in `exchange` at `now`."""
    state = exchange.state
    if state is ANSWERING:
        _check_answer(exchange, now)
    elif state is QUEUED:
        limit = exchange.call.timeouts.queue
        if limit and now - exchange.queued_at > limit:
            exchange.fail(
                Unavailable(
                    f"No worker became free within {limit:g} s.", code="queue_timeout", retry_after=limit / 4
                ),
                "refused",
            )
    elif state is not DONE and exchange.attempt is not None:
        _check_attempt(exchange, exchange.attempt, now)
        if exchange.hedge is not None and exchange.hedge.open:
            _check_attempt(exchange, exchange.hedge, now)


def _check_attempt(exchange: Exchange, attempt: Attempt, now: float) -> None:
    timeouts = exchange.call.timeouts
    relay = exchange.relay
    if not attempt.sent_at:
        if timeouts.connect and now - attempt.started > timeouts.connect:
            if timeouts.connect >= _operators(exchange).connect > 0:
                attempt.blame(now)
            exchange.attempt_failed(
                attempt,
                "timeout",
                f"worker {attempt.worker.id} did not accept a connection in {timeouts.connect:g} s",
            )
        return
    if _first_byte_is_late(exchange, attempt, now):
        return
    if attempt.worker.health == "unready" and not attempt.asked_to_leave:
        attempt.asked_to_leave = True
        exchange.leave_unready(attempt)
        return
    waited = now - attempt.sent_at
    head = attempt.head
    patience = relay.settings.ping_seconds if exchange.early_head is None else exchange.early_head
    if head is not None and head.events and head.status == 200 and waited > patience > 0:
        exchange.answer_with(attempt, content=False)
        exchange.ping()
    elif relay.hedge_delay is not None and exchange.hedge is None and waited > relay.hedge_delay.seconds:
        exchange.hedge_now()


def _operators(exchange: Exchange) -> Timeouts:
    """The limits that count against a worker: a client may have less patience, which proves nothing."""
    settings = exchange.relay.settings
    return settings.model_timeouts.get(exchange.call.model, settings.timeouts)


def _first_byte_is_late(exchange: Exchange, attempt: Attempt, now: float) -> bool:
    limit = exchange.call.timeouts.first_byte
    if not limit or now - attempt.sent_at <= limit:
        return False
    if limit >= _operators(exchange).first_byte > 0:
        attempt.blame(now)
    exchange.fail(
        UpstreamTimeout(f"Worker {attempt.worker.id} did not answer within {limit:g} s."),
        "timeout_first_byte",
    )
    return True


def _check_answer(exchange: Exchange, now: float) -> None:
    timeouts = exchange.call.timeouts
    if exchange.stalled_since:
        if timeouts.stalled_client and now - exchange.stalled_since > timeouts.stalled_client:
            exchange.client_gone("client_stalled")
            exchange.client.abort()
        return
    silent = now - exchange.passed.at
    if exchange.awaits_content:
        if exchange.attempt is not None and _first_byte_is_late(exchange, exchange.attempt, now):
            return
    elif timeouts.silence and silent > timeouts.silence:
        exchange.fail(
            UpstreamTimeout(f"The worker sent nothing for {timeouts.silence:g} s."), "timeout_silence"
        )
        return
    ping = exchange.relay.settings.ping_seconds
    if ping and silent > ping and now - exchange.last_ping > ping and exchange.is_event_stream:
        exchange.ping()
