"""What remains of ended exchanges: their share in the numbers, and their records for log and traces.

None of it is needed at once, so it waits until there is a batch: between two system calls the same code takes
half as long again. Whoever reads the numbers settles first; the sweep does so too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from gateway.relay.accounting import AccessRecord, Accounting
from gateway.relay.retry import HedgeDelay

if TYPE_CHECKING:
    from gateway.relay.exchange import Exchange

log = structlog.get_logger(__name__)

BATCH = 64
"""Ended exchanges that may wait. Each holds up to `exchange.TAIL_BYTES` of its answer."""


class Endings:
    """The ended exchanges of one gateway process, until they are settled."""

    __slots__ = ("_accounting", "_ended", "_hedge_delay", "_record", "_wants")

    def __init__(
        self,
        accounting: Accounting,
        hedge_delay: HedgeDelay | None,
        record: Callable[[AccessRecord], None] | None,
        wants: Callable[[int, str], bool] | None,
    ) -> None:
        """`record` and `wants` as in `relay.Observers`."""
        self._accounting = accounting
        self._hedge_delay = hedge_delay
        self._record = record
        self._wants = wants
        self._ended: list[Exchange] = []
        accounting.settle = self.settle

    def add(self, exchange: Exchange) -> None:
        """`exchange` is done."""
        self._ended.append(exchange)
        if len(self._ended) >= BATCH:
            self.settle()

    def settle(self) -> None:
        """Count all that have ended, and let go of them."""
        ended, self._ended = self._ended, []
        shares: defaultdict[tuple[str, str], list[Exchange]] = defaultdict(list)
        for exchange in ended:
            try:
                self._read(exchange)
            except Exception:
                # What is wrong with one must not cost the others their share.
                request_id = exchange.call.request_id.decode("latin-1")
                log.exception("an ended exchange cannot be read", request_id=request_id)
            if (attempt := exchange.attempt) is not None:
                shares[attempt.worker.id, exchange.call.model].append(exchange)
                # An attempt knows its exchange: without this circle both are gone when nobody needs them.
                exchange.attempt = exchange.winner = None
        for (worker, model), exchanges in shares.items():
            self._count(worker, model, exchanges)

    def _read(self, exchange: Exchange) -> None:
        """What the engine said of its work, for the router and the log."""
        exchange.read_usage()
        usage = exchange.usage
        if (winner := exchange.winner) is not None:
            winner.assignment.counted(usage.prompt_tokens, usage.cached_tokens, usage.output_tokens)
        if self._record is not None and (self._wants is None or self._wants(exchange.status, exchange.end)):
            self._record(_access_record(exchange))

    def _count(self, worker: str, model: str, exchanges: list[Exchange]) -> None:
        series = self._accounting.of(worker, model)
        series.ends.update([e.end for e in exchanges])
        series.statuses.update([e.status for e in exchanges])
        series.request_bytes += sum([e.request_bytes for e in exchanges])
        series.duration.observe_all([e.ended - e.started for e in exchanges])
        answered = [e for e in exchanges if not e.awaits_content]
        waits = [e.ttft for e in answered]
        series.ttft.observe_all(waits)
        if self._hedge_delay is not None:
            for wait in waits:
                self._hedge_delay.observe(wait)
        for e in answered:
            usage = e.usage
            series.response_bytes += e.response_bytes
            series.prompt_tokens += usage.prompt_tokens
            series.cached_tokens += usage.cached_tokens
            series.output_tokens += usage.output_tokens
            if e.passed.events:
                series.streams += 1
                series.events += e.passed.events


def _access_record(exchange: Exchange) -> AccessRecord:
    """The call as the access log and traces tell it."""
    call = exchange.call
    attempt = exchange.attempt
    usage = exchange.usage
    return AccessRecord(
        request_id=call.request_id.decode("latin-1"),
        method="POST",
        path=call.envelope.url.decode("latin-1"),
        status=exchange.status,
        end=exchange.end,
        model=call.model,
        worker=attempt.worker.id if attempt is not None else "",
        tenant=call.envelope.tenant,
        client=exchange.client.peer,
        stream=call.stream,
        attempts=exchange.attempts,
        started=exchange.relay.epoch + exchange.started,
        queue=exchange.queue_seconds,
        connect=exchange.connect_seconds,
        ttft=exchange.ttft,
        duration=exchange.ended - exchange.started,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        request_bytes=exchange.request_bytes,
        response_bytes=exchange.response_bytes,
        route=attempt.assignment.reason if attempt is not None else "",
        traceparent=call.envelope.wishes.traceparent,
        sent_traceparent=call.sent_traceparent,
    )
