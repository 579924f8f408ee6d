"""Several gateway processes on one port look like one gateway."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

REQUESTS = 40


def test_metrics_of_all_processes_add_up(
    start_sluice: Callable[..., Any], metric: Callable[..., float]
) -> None:
    sluice = start_sluice("--processes", "2", "--", "--answer-tokens=4")
    sluice.until(
        lambda: metric(sluice.url, "sluice_worker_health", state="ready") == 2, "both saw the worker ready"
    )
    body = {"model": "fake", "messages": [{"role": "user", "content": "Hello."}]}
    for _ in range(REQUESTS):
        assert sluice.post("/v1/chat/completions", body).status_code == 200

    def answered() -> float:
        return metric(sluice.url, "sluice_requests_total", end="ok")

    def processes() -> float:
        return metric(sluice.url, "sluice_processes")

    assert processes() == 2
    sluice.until(
        lambda: {answered() for _ in range(8)} == {REQUESTS}, "whoever is asked knew of all requests"
    )

    victim, survivor = sluice.gateway_pids()
    os.kill(victim, signal.SIGKILL)
    sluice.until(lambda: victim not in sluice.gateway_pids(), "the process was gone")
    sluice.until(lambda: len(sluice.gateway_pids()) == 2, "it was started again")
    assert survivor in sluice.gateway_pids()
    sluice.until(lambda: processes() == 2, "the new process was counted")
    assert {answered() for _ in range(8)} == {REQUESTS}, "what the dead process had counted is lost"
    for _ in range(REQUESTS):
        assert sluice.post("/v1/chat/completions", body).status_code == 200, "it began too early"
    sluice.stop()
