"""SIGTERM: what runs is finished, nothing new is begun, and nothing stays behind."""

from __future__ import annotations

from typing import Any

import httpx
import openai

TOKENS = 500
SLOWLY = {"x-fake-fault": "slow; event_s=0.005"}
"""For the fake engine; vLLM takes its time anyway."""


def test_a_stream_is_finished_before_the_end(sluice: Any, client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Tell me about the river."}],
        max_tokens=TOKENS,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
        extra_headers=SLOWLY,
    )
    next(iter(stream))
    sluice.terminate()

    def refuses() -> bool:
        try:
            return sluice.get("/ready").status_code == 503
        except httpx.TransportError:
            return True

    sluice.until(refuses, "new requests were refused")
    chunks = list(stream)
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == TOKENS
    assert sluice.wait_stopped() == 0, sluice.report()
    assert "Letting running answers finish..." in sluice.output
