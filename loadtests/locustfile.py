"""Chat users for Locust: shared system prompts, conversations that grow, answers read as a stream.

    locust -f loadtests/locustfile.py --host http://127.0.0.1:8080    (web page on :8089)
    make loadtest                                     (one minute, headless, fake engines)

Besides the request itself, three metrics appear as rows of their own: TTFT and ITL in milliseconds (ITL is
the mean over one answer), and tokens/s of one answer.

Environment: SLUICE_API_KEY, SLUICE_MODEL (default: the first of /v1/models), SLUICE_TURNS (default 6),
SLUICE_MAX_TOKENS (default 64), SLUICE_THINK_SECONDS (mean pause between turns, default 1).
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from typing import Any

from locust import HttpUser, task
from locust.exception import StopUser

TURNS = int(os.environ.get("SLUICE_TURNS", "6"))
MAX_TOKENS = int(os.environ.get("SLUICE_MAX_TOKENS", "64"))
THINK_SECONDS = float(os.environ.get("SLUICE_THINK_SECONDS", "1"))
SYSTEM_PROMPTS = [
    f"You are assistant number {number} of a harbour office. "
    + "Answer from the log book and nothing else. " * 40
    for number in range(8)
]
"""As products have them: few, long, and shared by many users."""
QUESTIONS = [
    "Which ships came in today?",
    "Who is the pilot of the last one?",
    "What did she carry, and for whom?",
    "How long will they stay at the quay?",
    "Is there anything that I should know about the weather?",
    "Write me a short summary for the morning.",
]


class ChatUser(HttpUser):
    """One person after another at one browser: a conversation of some turns, then a new one."""

    def wait_time(self) -> float:
        return random.expovariate(1.0 / THINK_SECONDS)

    def on_start(self) -> None:
        key = os.environ.get("SLUICE_API_KEY")
        self.headers = {"authorization": f"Bearer {key}"} if key else {}
        self.model = os.environ.get("SLUICE_MODEL") or self._first_model()
        self._begin()

    def _first_model(self) -> str:
        answer = self.client.get("/v1/models", headers=self.headers)
        if answer.ok and (models := answer.json()["data"]):
            return str(models[0]["id"])
        raise StopUser("no model is served: GET /v1/models was empty")

    def _begin(self) -> None:
        self.messages: list[dict[str, str]] = [{"role": "system", "content": random.choice(SYSTEM_PROMPTS)}]

    @task
    def turn(self) -> None:
        """Ask the next question of the conversation and read the answer as it comes."""
        self.messages.append({"role": "user", "content": random.choice(QUESTIONS)})
        body = {
            "model": self.model,
            "messages": self.messages,
            "max_tokens": MAX_TOKENS,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        started = time.perf_counter()
        with self.client.post(
            "/v1/chat/completions",
            json=body,
            headers=self.headers,
            stream=True,
            catch_response=True,
            timeout=(10, 300),
        ) as response:
            if response.status_code != 200:
                response.failure(f"{response.status_code}: {_message(response.content)}")
                self._begin()
                return
            text, failure = self._read(response, started)
            if failure:
                response.failure(failure)
                self._begin()
                return
        self.messages.append({"role": "assistant", "content": text})
        if len(self.messages) > 2 * TURNS:
            self._begin()

    def _read(self, response: Any, started: float) -> tuple[str, str]:
        """The answer's text, and what was wrong with it, if anything."""
        parts: list[str] = []
        stamps: list[float] = []
        tokens = 0
        finished = False
        for data in _events(response.iter_lines(chunk_size=None)):
            if data == "[DONE]":
                finished = True
                break
            event = json.loads(data)
            if "error" in event:
                return "", f"error in the stream: {event['error'].get('message')}"
            for choice in event.get("choices", ()):
                if content := choice.get("delta", {}).get("content"):
                    parts.append(content)
                    stamps.append(time.perf_counter())
            if usage := event.get("usage"):
                tokens = usage.get("completion_tokens", 0)
        if not finished:
            return "", "the stream ended without [DONE]"
        if stamps:
            self._report("TTFT", (stamps[0] - started) * 1e3)
        if len(stamps) > 1:
            spent = stamps[-1] - stamps[0]
            self._report("ITL", spent / (len(stamps) - 1) * 1e3)
            if spent > 0:
                self._report("tokens/s", (tokens or len(stamps)) / (stamps[-1] - started))
        return "".join(parts), ""

    def _report(self, name: str, value: float) -> None:
        self.environment.events.request.fire(
            request_type="stream",
            name=name,
            response_time=value,
            response_length=0,
            exception=None,
            context={},
        )


def _events(lines: Iterator[bytes | str]) -> Iterator[str]:
    """The data of every event; comments and other fields are passed over."""
    for line in lines:
        text = line.decode() if isinstance(line, bytes) else line
        if text.startswith("data:"):
            yield text[5:].strip()


def _message(content: bytes | None) -> str:
    try:
        return str(json.loads(content or b"")["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "no message"
