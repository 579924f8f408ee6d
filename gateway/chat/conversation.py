"""A conversation with one model, kept by the client: what was said, and how each answer came."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import httpx
import orjson

from gateway.chat.channel import Channel, import_webrtc
from gateway.chat.http import ChatError, ask
from gateway.chat.joined import JoinedAnswer

_STALL_SECONDS = 0.2
_LEAST_SPAN = 0.05
"""Seconds. A shorter answer came in a piece or two: its rate would tell of buffers, not of the model."""


@dataclass(slots=True)
class Summary:
    """Numbers of one answer; times in seconds."""

    ttft: float = 0.0
    duration: float = 0.0
    pieces: int = 0
    output_tokens: int = 0
    """As the engine counted; 0 if it did not say."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    route: str = ""
    paths: list[str] = field(default_factory=list)
    stalls: int = 0
    """Gaps of more than 0.2 s between two pieces."""
    troubles: list[str] = field(default_factory=list)

    def line(self) -> str:
        """For people."""
        tokens = self.output_tokens or self.pieces
        spoken = self.duration - self.ttft
        parts = [f"first token {self.ttft * 1000:.0f} ms", f"{tokens} tokens"]
        if spoken >= _LEAST_SPAN and tokens > 1:
            parts.append(f"{(tokens - 1) / spoken:.1f} tokens/s")
        if self.prompt_tokens:
            parts.append(f"{self.cached_tokens} of {self.prompt_tokens} prompt tokens cached")
        parts.append(f"via {' -> '.join(self.paths)}")
        if self.route:
            parts.append(self.route)
        if self.stalls:
            parts.append(f"{self.stalls} stalls")
        line = f"[{', '.join(parts)}]"
        return "\n".join((line, *(f"[{trouble}]" for trouble in self.troubles)))


class Conversation:
    """`async with Conversation(...) as c: async for piece in c.say("Hi"): ...`"""

    def __init__(
        self,
        url: str,
        model: str | None,
        *,
        key: str = "",
        system: str = "",
        options: dict[str, object] | None = None,
        eloquent: bool = False,
    ) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(30.0, read=None)
        self._http = httpx.AsyncClient(base_url=url.rstrip("/"), headers=headers, timeout=timeout)
        self._model = model
        self._options = options or {}
        self._messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        self._eloquent = eloquent
        self._channel: asyncio.Task[Channel] | None = None
        self._channels: list[Channel] = []
        self.summary = Summary()
        """Of the latest answer."""

    async def __aenter__(self) -> Conversation:
        try:
            self._model = self._model or await self._first_model()
        except BaseException:
            await self._http.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._channel is not None:
            self._channel.cancel()
            with contextlib.suppress(asyncio.CancelledError, ChatError):
                await self._channel
        for channel in self._channels:
            await channel.close()
        await self._http.aclose()

    async def say(self, text: str) -> AsyncIterator[str]:
        """Pieces of the model's answer. Raises ChatError. What was said is remembered if it was answered."""
        asked = [*self._messages, {"role": "user", "content": text}]
        body = {
            "model": self._model,
            "messages": asked,
            "stream_options": {"include_usage": True},
            **self._options,
        }
        began = last = time.monotonic()
        channel = self._open_channel() if self._eloquent else None
        first = await ask(self._http, body, keep=True)
        summary = self.summary = Summary(route=first.response.headers.get("x-sluice-route", ""))
        joined = JoinedAnswer(self._http, first, channel)
        answer: list[str] = []
        async with contextlib.aclosing(joined.events()) as events:
            async for data in events:
                if data == b"[DONE]":
                    break
                piece = self._read(data, summary)
                if not piece:
                    continue
                now = time.monotonic()
                summary.ttft = summary.ttft or now - began
                summary.stalls += bool(summary.pieces) and now - last > _STALL_SECONDS
                last = now
                summary.pieces += 1
                answer.append(piece)
                yield piece
        summary.duration = time.monotonic() - began
        summary.paths = list(joined.course.paths)
        summary.troubles = joined.course.troubles
        self._messages = [*asked, {"role": "assistant", "content": "".join(answer)}]

    def _read(self, data: bytes, summary: Summary) -> str:
        """The text that a chunk adds. Raises ChatError for one that says that the answer failed."""
        chunk = orjson.loads(data)
        if (error := chunk.get("error")) is not None:
            raise ChatError(error.get("message", str(error)) if isinstance(error, dict) else str(error))
        if (usage := chunk.get("usage")) is not None:
            summary.prompt_tokens = usage.get("prompt_tokens", 0)
            summary.output_tokens = usage.get("completion_tokens", 0)
            summary.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        return "".join(choice.get("delta", {}).get("content") or "" for choice in chunk.get("choices", ()))

    def _open_channel(self) -> asyncio.Task[Channel]:
        """The call of this conversation; a new one if the last was lost or never opened."""
        task = self._channel
        if task is not None and task.done():
            failed = task.cancelled() or task.exception() is not None
            if failed or task.result().lost:
                task = None
        if task is None:
            task = self._channel = asyncio.ensure_future(self._opened())
        return task

    async def _opened(self) -> Channel:
        # It takes a while, in which the answer is to be read.
        await asyncio.to_thread(import_webrtc)
        channel = Channel(self._http)
        self._channels.append(channel)
        await channel.open()
        return channel

    async def _first_model(self) -> str:
        try:
            answer = await self._http.get("/v1/models")
            models = answer.json()["data"] if answer.status_code == 200 else []
        except httpx.ConnectError as error:
            url = self._http.base_url
            raise ChatError(
                f"no gateway answers at {url}: {error}; start one with `sluice serve`, or say --url"
            ) from error
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise ChatError(f"{self._http.base_url} does not answer as a gateway does: {error}") from error
        if answer.status_code == 401:
            raise ChatError("the gateway asks for an API key: set OPENAI_API_KEY")
        if not models:
            raise ChatError(
                "the gateway serves no model yet: its worker may still be loading, as it tells where it was "
                "started; `sluice doctor` looks for other causes"
            )
        return str(models[0]["id"])
