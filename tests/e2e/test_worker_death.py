"""A worker that is killed: who was listening learns it, `/health` says what happens, and it comes back."""

from __future__ import annotations

import os
import signal
from typing import Any

import openai
import pytest

QUESTION: list[Any] = [{"role": "user", "content": "Tell me about the river."}]


def test_a_killed_worker_comes_back(sluice: Any, client: openai.OpenAI, model: str) -> None:
    before = sluice.processes()
    (victim,) = sluice.worker_pids()
    stream = client.chat.completions.create(
        model=model, messages=QUESTION, max_tokens=1800, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(openai.APIError, match="worker-0"):
        list(stream)

    seen: dict[str, str] = {}

    def ready_again() -> bool:
        (worker,) = sluice.health()["workers"]
        seen.setdefault(worker["state"], worker["message"])
        return bool(worker["state"] == "ready") and sluice.worker_pids() not in ([], [victim])

    sluice.until(lambda: sluice.get("/ready").status_code == 503, "it was not ready")
    refused = sluice.post("/v1/chat/completions", {"model": model, "messages": QUESTION})
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "no_worker"
    assert int(refused.headers["retry-after"]) > 0

    sluice.until(ready_again, "the worker was ready again", within=240)
    assert seen.keys() >= ({"restarting", "loading"} if sluice.engine == "vllm" else set()), (
        "a real model's states last long enough to be seen; a fake engine's may pass between two looks"
    )
    assert "SIGKILL" in seen.get("restarting", "SIGKILL")
    assert seen.get("loading", "the model is loading").startswith("the model is loading")
    answer = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=4)
    assert answer.choices[0].message.content
    after = sluice.processes()
    kept = {pid for pid in before if after.get(pid) == before[pid]}
    assert kept == {sluice.process.pid, *sluice.gateway_pids()}, "only the worker's processes are new"
