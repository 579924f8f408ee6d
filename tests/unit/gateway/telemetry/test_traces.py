from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from gateway.relay.accounting import AccessRecord
from gateway.telemetry.settings import TelemetrySettings
from gateway.telemetry.traceparent import parse
from gateway.telemetry.traces import Traces, TracingUnavailableError

pytest.importorskip("opentelemetry.sdk")

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
RECORD = AccessRecord(
    request_id="req-1",
    method="POST",
    path="/v1/chat/completions?key=hidden",
    status=200,
    end="ok",
    model="small",
    worker="w0",
    attempts=1,
    started=1_700_000_000.0,
    queue=0.5,
    ttft=0.75,
    duration=2.0,
    prompt_tokens=10,
    output_tokens=5,
    route="ttft:hit=0/10",
)


class Collected:
    """A span processor that keeps what it is given."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.closed = False

    def on_end(self, span: Any) -> None:
        self.spans.append(span)

    def shutdown(self) -> None:
        self.closed = True


def spans_of(record: AccessRecord, **settings: Any) -> list[Any]:
    collected = Collected()
    traces = Traces(TelemetrySettings(**settings), collected)
    traces.write(record)
    assert collected.spans == []
    traces.close()
    assert collected.closed
    return collected.spans


def test_the_worker_s_span_is_below_ours_and_ours_below_the_callers() -> None:
    traces = Traces(TelemetrySettings(), Collected())
    sent = traces.child_traceparent(CALLER)
    server, client = spans_of(replace(RECORD, traceparent=CALLER, sent_traceparent=sent))
    caller, worker = parse(CALLER), parse(sent)
    assert caller is not None
    assert worker is not None
    assert server.context.trace_id == client.context.trace_id == caller.trace_id
    assert server.parent.span_id == caller.span_id
    assert client.parent.span_id == server.context.span_id
    assert client.context.span_id == worker.span_id
    assert len({caller.span_id, server.context.span_id, worker.span_id}) == 3


def test_times_names_and_attributes() -> None:
    sent = Traces(TelemetrySettings(), Collected()).child_traceparent(None)
    server, client = spans_of(replace(RECORD, sent_traceparent=sent))
    assert (server.name, client.name) == ("POST /v1/chat/completions", "/v1/chat/completions")
    assert server.parent is None
    assert (server.start_time, server.end_time) == (1_700_000_000 * 10**9, 1_700_000_002 * 10**9)
    assert client.start_time == 1_700_000_000_500_000_000
    assert server.events[0].timestamp == 1_700_000_000_750_000_000
    assert server.attributes["gen_ai.operation.name"] == "chat"
    assert server.attributes["gen_ai.usage.input_tokens"] == 10
    assert client.attributes["sluice.worker"] == "w0"
    assert "sluice.tenant" not in server.attributes
    assert "hidden" not in server.to_json() + client.to_json()
    assert server.status.is_unset


@pytest.mark.parametrize(
    ("status", "end", "failed"),
    [
        (200, "worker_gone", True),
        (503, "refused", True),
        (404, "refused", False),
        (200, "client_gone", False),
    ],
)
def test_what_went_wrong_is_an_error(status: int, end: str, failed: bool) -> None:
    (server,) = spans_of(replace(RECORD, status=status, end=end))
    assert (not server.status.is_unset) is failed


def test_a_request_that_no_worker_saw_has_one_span() -> None:
    (server,) = spans_of(replace(RECORD, worker="", traceparent=CALLER))
    assert server.parent.span_id == 0xB7AD6B7169203331


def test_the_caller_decides_about_sampling_and_else_the_share() -> None:
    assert spans_of(replace(RECORD, traceparent=CALLER[:-2] + "00")) == []
    assert len(spans_of(replace(RECORD, traceparent=CALLER), trace_share=0.0)) == 1
    assert spans_of(RECORD, trace_share=0.0) == []
    none = Traces(TelemetrySettings(trace_share=0.0), Collected())
    assert none.child_traceparent(None).endswith("-00")
    assert none.child_traceparent(CALLER).endswith("-01")
    assert none.child_traceparent("nonsense").endswith("-00")


async def test_the_timer_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.telemetry.traces.EXPORT_INTERVAL", 0.0)
    collected = Collected()
    traces = Traces(TelemetrySettings(), collected)
    for _ in range(50):
        traces.write(RECORD)
    timer = asyncio.create_task(traces.run())
    async with asyncio.timeout(5):
        while len(collected.spans) < 50:  # noqa: ASYNC110
            await asyncio.sleep(0)
    timer.cancel()
    assert len(collected.spans) == 50


def test_spans_reach_a_collector_over_otlp() -> None:
    received: list[tuple[str, int]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append((self.path, len(body)))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            traces = Traces(TelemetrySettings(otlp_endpoint=f"http://127.0.0.1:{server.server_port}/"))
            traces.write(RECORD)
            traces.close()
        finally:
            server.shutdown()
            thread.join()
    assert [path for path, _ in received] == ["/v1/traces"]
    assert received[0][1] > 100


def test_without_opentelemetry_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(TracingUnavailableError, match=r"pip install 'sluice\[otel\]'"):
        Traces(TelemetrySettings(otlp_endpoint="http://127.0.0.1:4318"))


def test_the_package_does_not_import_opentelemetry_by_itself() -> None:
    code = "import gateway.telemetry.traces, sys; assert 'opentelemetry' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
