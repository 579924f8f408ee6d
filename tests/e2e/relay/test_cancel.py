"""A client that leaves stops the work, in the gateway and in the engine."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import openai

LONG: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Tell me about the river."}],
    "max_tokens": 1800,
}
NOT_ENDING = {"ignore_eos": True}


class Counts:
    """How requests ended at the gateway and in the engine since this was made."""

    def __init__(self, sluice: Any, metric: Callable[..., float]) -> None:
        self._sluice = sluice
        self._metric = metric
        self._worker = sluice.worker_urls()[0]
        self._before = self._ends()

    def running(self) -> float:
        return self._metric(self._worker, "vllm:num_requests_running")

    def ends(self) -> tuple[float, float]:
        """Requests whose client left, by the gateway's count, and answers that the engine completed."""
        left, completed = self._ends()
        return left - self._before[0], completed - self._before[1]

    def _ends(self) -> tuple[float, float]:
        """vLLM does not count aborts, so what is counted is that it completed nothing."""
        completed = (
            self._metric(self._worker, "vllm:request_success_total", finished_reason=reason)
            for reason in ("stop", "length")
        )
        left = self._metric(self._sluice.url, "sluice_requests_total", end="client_gone")
        return left, sum(completed)


def test_closing_a_stream(
    sluice: Any, client: openai.OpenAI, model: str, metric: Callable[..., float]
) -> None:
    counts = Counts(sluice, metric)
    stream = client.chat.completions.create(model=model, **LONG, stream=True, extra_body=NOT_ENDING)
    for _ in range(3):
        next(iter(stream))
    assert counts.running() == 1
    stream.close()
    sluice.until(lambda: counts.running() == 0, "the engine stopped")
    assert counts.ends() == (1, 0)
    assert metric(sluice.url, "sluice_active_requests") == 0


def test_leaving_before_a_whole_answer(sluice: Any, model: str, metric: Callable[..., float]) -> None:
    counts = Counts(sluice, metric)
    body = json.dumps({"model": model, **LONG, **NOT_ENDING}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
    host, _, port = sluice.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        sluice.until(lambda: counts.running() == 1, "the engine began")
    sluice.until(lambda: counts.running() == 0, "the engine stopped")
    assert counts.ends() == (1, 0)
