from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from gateway.relay.accounting import AccessRecord
from gateway.telemetry.access_log import SLICE, AccessLog, console_line, json_line

GOOD = AccessRecord(
    request_id="req-1",
    method="POST",
    path="/v1/chat/completions?api_key=sk-hidden",
    status=200,
    end="ok",
    model="small",
    worker="w0",
    tenant="physics",
    client="127.0.0.1",
    stream=True,
    attempts=1,
    started=1_700_000_000.25,
    ttft=0.0123456789,
    duration=1.5,
    prompt_tokens=100,
    cached_tokens=64,
    output_tokens=20,
    route="ttft:hit=64/100",
)
REFUSED = AccessRecord(request_id="req-2", method="POST", path="/v1/embeddings", status=404, end="ok")


def log(**options: float) -> tuple[AccessLog, io.BytesIO]:
    stream = io.BytesIO()
    return AccessLog(stream, json_line, **options), stream  # type: ignore[arg-type]


def ids(stream: io.BytesIO) -> list[str]:
    return [json.loads(line)["request_id"] for line in stream.getvalue().splitlines()]


async def test_nothing_is_written_before_the_timer() -> None:
    access, stream = log()
    access.write(GOOD)
    access.write(REFUSED)
    assert stream.getvalue() == b""
    await access.flush()
    assert ids(stream) == ["req-1", "req-2"]
    await access.flush()
    assert len(ids(stream)) == 2


async def test_a_batch_longer_than_a_slice_keeps_its_order() -> None:
    access, stream = log()
    names = [f"req-{number}" for number in range(3 * SLICE + 1)]
    for name in names:
        access.write(replace(GOOD, request_id=name))
    await access.flush()
    assert ids(stream) == names


def test_closing_writes_the_rest() -> None:
    access, stream = log()
    access.write(GOOD)
    access.close()
    assert ids(stream) == ["req-1"]


@pytest.mark.parametrize(("share", "kept"), [(1.0, 100), (0.25, 25), (0.1, 10), (0.0, 0)])
def test_good_requests_are_sampled_evenly(share: float, kept: int) -> None:
    access, _ = log(share=share, per_second=10_000)
    wanted = sum(access.wants(200, "ok") for _ in range(100))
    assert wanted == pytest.approx(kept, abs=1)
    assert access.skipped == 100 - wanted


async def test_under_load_only_so_many_good_requests_are_logged() -> None:
    access, _ = log(per_second=20)
    assert sum(access.wants(200, "ok") for _ in range(1000)) == 10
    access.write(GOOD)
    await access.flush()
    assert sum(access.wants(200, "ok") for _ in range(1000)) == 10


def test_failures_are_never_sampled_away() -> None:
    access, _ = log(share=0.0, per_second=1)
    for _ in range(100):
        assert access.wants(503, "refused")
        assert access.wants(200, "worker_gone")
        assert not access.wants(200, "ok")


def test_a_full_list_drops_and_counts() -> None:
    access, stream = log(limit=2)
    for _ in range(5):
        access.write(GOOD)
    assert access.dropped == 3
    access.close()
    access.write(REFUSED)
    access.close()
    assert ids(stream) == ["req-1", "req-1", "req-2"]


def test_the_json_line() -> None:
    line = json.loads(json_line(GOOD))
    assert line["timestamp"] == "2023-11-14T22:13:20.250Z"
    assert (line["event"], line["level"], line["path"]) == ("request", "info", "/v1/chat/completions")
    assert (line["ttft"], line["cached_tokens"], line["tenant"]) == (0.0123456789, 64, "physics")
    assert "hidden" not in str(line)


@pytest.mark.parametrize(
    ("status", "end", "level"),
    [(200, "ok", "info"), (404, "ok", "info"), (503, "ok", "warning"), (200, "client_gone", "info")]
    + [(200, "worker_gone", "warning"), (200, "timeout_silence", "warning"), (200, "drained", "info")],
)
def test_the_level_tells_whether_somebody_should_look(status: int, end: str, level: str) -> None:
    assert json.loads(json_line(replace(GOOD, status=status, end=end)))["level"] == level


def test_the_console_line_is_readable_and_cannot_steer_a_terminal() -> None:
    line = console_line(replace(GOOD, model="a\x1b[31m\nfake", attempts=2, end="worker_gone")).decode()
    assert "POST /v1/chat/completions 200, a?[31m?fake at w0, 1500 ms, first byte 12 ms" in line
    assert "tokens 100 (64 cached) -> 20, 2 attempts, ended: worker_gone  [req-1]\n" in line
    assert line.count("\n") == 1
    assert "hidden" not in line
