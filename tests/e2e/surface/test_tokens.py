"""`/tokenize` and `/detokenize`."""

from __future__ import annotations

from typing import Any

import openai

TEXT = "The fox met an otter."
CHAT: list[Any] = [{"role": "user", "content": TEXT}]


def test_there_and_back(sluice: Any, model: str) -> None:
    body = {"model": model, "prompt": TEXT, "add_special_tokens": False}
    tokens = sluice.post("/tokenize", body).raise_for_status().json()
    assert tokens["count"] == len(tokens["tokens"]) > 0
    back = sluice.post("/detokenize", {"model": model, "tokens": tokens["tokens"]})
    assert back.raise_for_status().json()["prompt"] == TEXT


def test_a_chat_has_as_many_tokens_as_its_answer_reports(
    sluice: Any, client: openai.OpenAI, model: str
) -> None:
    counted = sluice.post("/tokenize", {"model": model, "messages": CHAT}).raise_for_status().json()
    usage = client.chat.completions.create(model=model, messages=CHAT, max_tokens=1).usage
    assert usage is not None
    assert counted["count"] == usage.prompt_tokens
