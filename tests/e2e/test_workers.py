"""Two workers: a conversation stays where its KV cache is, and goes on elsewhere when that worker dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

CONVERSATIONS = 6


@pytest.fixture(scope="module")
def pair(start_sluice: Callable[..., Any]) -> Iterator[Any]:
    """A gateway before two workers whose prefill takes time."""
    flags = ("--workers", "2", "--", "--answer-tokens=8", "--prefill-rate=20000")
    sluice = start_sluice(*flags)
    sluice.until(lambda: sluice.health()["status"] == "ok", "both workers were ready")
    yield sluice
    sluice.stop()


class Conversation:
    """Grows by one turn at a time, like a chat."""

    def __init__(self, sluice: Any, number: int) -> None:
        self._sluice = sluice
        document = " ".join(f"Fact {fact} of story {number}." for fact in range(120))
        self.messages = [{"role": "system", "content": document}]
        self.workers: list[str] = []
        self.cached: list[int] = []

    def turn(self) -> None:
        self.messages.append({"role": "user", "content": f"Question {len(self.messages)}?"})
        answer = self._sluice.post("/v1/chat/completions", {"model": "fake", "messages": self.messages})
        answer.raise_for_status()
        body = answer.json()
        self.messages.append(body["choices"][0]["message"])
        self.workers.append(answer.headers["x-sluice-worker"])
        self.cached.append(body["usage"]["prompt_tokens_details"]["cached_tokens"])


def test_conversations_stay_with_their_cache(pair: Any, metric: Callable[..., float]) -> None:
    conversations = [Conversation(pair, number) for number in range(CONVERSATIONS)]
    with ThreadPoolExecutor(CONVERSATIONS) as pool:
        for _ in range(4):
            list(pool.map(Conversation.turn, conversations))
    homes = [set(conversation.workers) for conversation in conversations]
    assert [len(home) for home in homes] == [1] * CONVERSATIONS, homes
    assert set.union(*homes) == {"worker-0", "worker-1"}, "one worker had nothing to do"
    for conversation in conversations:
        assert conversation.cached[0] == 0
        assert min(conversation.cached[1:]) > 0
    for url in pair.worker_urls():
        assert metric(url, "vllm:prefix_cache_hits_total") > 0


def test_a_conversation_goes_on_when_its_worker_dies(pair: Any) -> None:
    conversation = Conversation(pair, 77)
    conversation.turn()
    home = conversation.workers[0]
    port = next(w["url"] for w in pair.health()["workers"] if w["id"] == home).rpartition(":")[2]
    processes = pair.processes()
    victim = next(pid for pid in pair.worker_pids() if f"--port {port} " in processes[pid])
    os.kill(victim, signal.SIGKILL)
    conversation.turn()
    assert conversation.workers[1] != home
    pair.until(lambda: pair.health()["status"] == "ok", "the worker had come back")
    conversation.turn()
    assert len(conversation.messages) == 7
