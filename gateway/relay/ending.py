"""What remains of an ended exchange: its share in the numbers, and its record for log and traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.relay.accounting import AccessRecord
from gateway.relay.sse import Usage

if TYPE_CHECKING:
    from gateway.relay.exchange import Exchange


def account(exchange: Exchange, worker: str, end: str, ttft: float, now: float, usage: Usage) -> None:
    """Count a call that reached `worker`; `ttft` in seconds, if an answer began."""
    accounting = exchange.relay.accounting
    series = accounting.of(worker, exchange.call.model)
    series.ends[end] += 1
    series.statuses[exchange.status] += 1
    series.request_bytes += exchange.request_bytes
    series.duration.observe(now - exchange.started)
    if not exchange.awaits_content:
        series.ttft.observe(ttft)
        series.response_bytes += exchange.response_bytes
        series.prompt_tokens += usage.prompt_tokens
        series.cached_tokens += usage.cached_tokens
        series.output_tokens += usage.output_tokens
        if exchange.events:
            series.streams += 1
            series.events += exchange.events
        if exchange.relay.hedge_delay is not None:
            exchange.relay.hedge_delay.observe(ttft)


def access_record(
    exchange: Exchange, worker: str, end: str, ttft: float, now: float, usage: Usage
) -> AccessRecord:
    """The call as the access log and traces tell it."""
    call = exchange.call
    return AccessRecord(
        request_id=call.request_id.decode("latin-1"),
        method="POST",
        path=call.url.decode("latin-1"),
        status=exchange.status,
        end=end,
        model=call.model,
        worker=worker,
        tenant=call.tenant,
        client=exchange.client.peer,
        stream=call.stream,
        attempts=exchange.attempts,
        started=exchange.relay.epoch + exchange.started,
        queue=exchange.queue_seconds,
        connect=exchange.connect_seconds,
        ttft=ttft,
        duration=now - exchange.started,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        request_bytes=exchange.request_bytes,
        response_bytes=exchange.response_bytes,
        route=exchange.attempt.assignment.reason if exchange.attempt is not None else "",
        traceparent=call.traceparent,
        sent_traceparent=call.sent_traceparent,
    )
