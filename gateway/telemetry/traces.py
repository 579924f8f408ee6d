"""OpenTelemetry spans of relayed requests, made when a request is over from its access record.

On the way only the context is made that the worker gets (`child_traceparent`); times, tokens and the end are
in the record anyway. Per request there are two spans: what the client saw, and below it what the worker did,
which is the parent of the engine's own span.

OpenTelemetry is an optional dependency, imported when traces are switched on.
"""

from __future__ import annotations

import asyncio
from random import random
from typing import Any

from gateway.relay.accounting import AccessRecord
from gateway.telemetry.access_log import went_wrong
from gateway.telemetry.families import release
from gateway.telemetry.settings import TelemetrySettings
from gateway.telemetry.traceparent import TraceContext, new_trace, parse

EXPORT_INTERVAL = 1.0
SLICE = 20
"""Records that become spans at a time; in between, the event loop serves requests."""
LIMIT = 10_000

_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/messages": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
"""Path -> `gen_ai.operation.name` of OpenTelemetry's conventions."""


class TracingUnavailableError(RuntimeError):
    """Traces are switched on, but the packages they need are not installed."""


class Traces:
    """Continues traces to workers and exports spans; `run` is its timer, `close` sends what is left.

    Without a `processor` spans go to `settings.otlp_endpoint`, over HTTP and in batches.
    Raises TracingUnavailableError.
    """

    def __init__(self, settings: TelemetrySettings, processor: Any = None) -> None:
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        except ImportError as error:
            raise _unavailable(error) from error
        self._share = settings.trace_share
        self._processor = processor if processor is not None else _otlp(settings)
        self._resource = Resource.create(
            {"service.name": settings.service_name, "service.version": release()}
        )
        self._scope = InstrumentationScope("sluice", release())
        self._records: list[AccessRecord] = []
        self.dropped = 0
        """Records that found the list full."""

    def child_traceparent(self, traceparent: str | None) -> str:
        """The context for a worker: a new span of the client's trace, or of a new one."""
        parent = parse(traceparent)
        return str(parent.child() if parent is not None else new_trace(random() < self._share))

    def write(self, record: AccessRecord) -> None:
        """Take a finished request's record; costs a list append."""
        if len(self._records) < LIMIT:
            self._records.append(record)
        else:
            self.dropped += 1

    async def run(self) -> None:
        """Make spans every second until cancelled."""
        while True:
            await asyncio.sleep(EXPORT_INTERVAL)
            records, self._records = self._records, []
            for start in range(0, len(records), SLICE):
                self._export(records[start : start + SLICE])
                await asyncio.sleep(0)

    def close(self) -> None:
        """Export the rest. Blocks until the collector has it or the exporter gives up: use a thread."""
        records, self._records = self._records, []
        self._export(records)
        self._processor.shutdown()

    def _export(self, records: list[AccessRecord]) -> None:
        for record in records:
            for span in self._spans(record):
                self._processor.on_end(span)

    def _spans(self, record: AccessRecord) -> list[Any]:
        """The spans of one request, parents first; none if it is not sampled."""
        from opentelemetry.trace import SpanKind

        caller = parse(record.traceparent)
        sent = parse(record.sent_traceparent)
        near = sent or caller
        server = near.child() if near is not None else new_trace(random() < self._share)
        if not server.sampled:
            return []
        path = record.path.partition("?")[0]
        begin, end = record.started, record.started + record.duration
        spans = [
            self._span(
                f"{record.method} {path}",
                server,
                caller,
                SpanKind.SERVER,
                record,
                begin,
                end,
                _of_request(record),
            )
        ]
        if sent is not None and record.worker:
            asked = begin + record.queue
            spans.append(
                self._span(path, sent, server, SpanKind.CLIENT, record, asked, end, _of_worker(record))
            )
        return spans

    def _span(
        self,
        name: str,
        context: TraceContext,
        parent: TraceContext | None,
        kind: Any,
        record: AccessRecord,
        begin: float,
        end: float,
        attributes: dict[str, Any],
    ) -> Any:
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.trace import Status, StatusCode

        first_byte = [Event("first byte", timestamp=_ns(record.started + record.ttft))] if record.ttft else []
        return ReadableSpan(
            name=name,
            context=_otel(context, is_remote=False),
            parent=_otel(parent, is_remote=True) if parent is not None else None,
            resource=self._resource,
            attributes={key: value for key, value in attributes.items() if value not in ("", None)},
            events=first_byte,
            kind=kind,
            status=Status(StatusCode.ERROR, record.end) if went_wrong(record) else Status(StatusCode.UNSET),
            start_time=_ns(begin),
            end_time=_ns(max(begin, end)),
            instrumentation_scope=self._scope,
        )


def _of_request(record: AccessRecord) -> dict[str, Any]:
    path = record.path.partition("?")[0]
    return {
        "http.request.method": record.method,
        "url.path": path,
        "http.response.status_code": record.status,
        "client.address": record.client,
        "gen_ai.operation.name": _OPERATIONS.get(path),
        "gen_ai.request.model": record.model,
        "gen_ai.usage.input_tokens": record.prompt_tokens or None,
        "gen_ai.usage.output_tokens": record.output_tokens or None,
        "sluice.request_id": record.request_id,
        "sluice.tenant": record.tenant,
        "sluice.end": record.end,
        "sluice.attempts": record.attempts,
        "sluice.queue_seconds": record.queue,
    }


def _of_worker(record: AccessRecord) -> dict[str, Any]:
    return {
        "sluice.worker": record.worker,
        "sluice.route": record.route,
        "sluice.connect_seconds": record.connect,
        "sluice.cached_tokens": record.cached_tokens,
        "gen_ai.request.model": record.model,
    }


def _otel(context: TraceContext, *, is_remote: bool) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(context.trace_id, context.span_id, is_remote, TraceFlags(int(context.sampled)))


def _ns(seconds: float) -> int:
    """A double of today's date is good for microseconds."""
    return round(seconds * 1e6) * 1000


def _otlp(settings: TelemetrySettings) -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise _unavailable(error) from error
    base = (settings.otlp_endpoint or "").rstrip("/")
    return BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{base}/v1/traces"))


def _unavailable(error: ImportError) -> TracingUnavailableError:
    return TracingUnavailableError(
        "traces are switched on (telemetry.otlp_endpoint or OTEL_EXPORTER_OTLP_ENDPOINT), but "
        f"OpenTelemetry is not installed ({error.name}): pip install 'sluice[otel]', or switch them off"
    )
