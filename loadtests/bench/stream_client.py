"""Readers of kept streams, for measuring who serves them: `python -m loadtests.bench.stream_client ...`.

Every stream is asked for once; the window begins when all of them are read by the path that is measured. The
figures of the window are printed as one JSON object. `--ready` names a file that is made at its beginning.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import httpx
import uvloop

from gateway.chat.channel import Channel
from gateway.chat.http import Answer, ask, resume
from loadtests.bench.client import MODEL

ReadBy = Literal["plain", "post", "get", "eloquent"]


@dataclass(slots=True)
class Window:
    """What was read in the window."""

    events: int = 0
    packets: int = 0
    late: int = 0
    """Events that came more than 0.2 s after the one before, on the same stream."""
    failed: int = 0
    """Streams that brought less than 9/10 of what the median stream did."""
    client_core: float = 0.0
    """Share of its core that this process used: near 1 it is the client that is measured."""
    seconds: float = 0.0


class _Reader:
    def __init__(self, window: Window) -> None:
        self.window = window
        self.events = 0
        self.open = False
        self._last = 0.0

    def take(self, events: int) -> None:
        now = time.perf_counter()
        if self.open:
            self.events += events
            self.window.events += events
            self.window.late += now - self._last > 0.2
        self._last = now


async def _pull(answer: Answer, reader: _Reader) -> None:
    async for piece in answer.response.aiter_raw():
        reader.take(piece.count(b"\n\n"))


async def _open(http: httpx.AsyncClient, stack: AsyncExitStack, reader: _Reader) -> Channel:
    """A call, before its stream begins: opening many beside running streams would take the client's core."""
    channel = Channel(http)
    stack.push_async_callback(channel.close)
    await channel.open()

    def counted(packet: bytes) -> bool:
        reader.window.packets += reader.open
        return False

    channel.drop = counted
    return channel


async def _read(
    http: httpx.AsyncClient,
    stack: AsyncExitStack,
    how: ReadBy,
    tokens: int,
    reader: _Reader,
    channel: Channel | None,
) -> asyncio.Task[None] | None:
    """Begin to read one stream as `how` says."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": tokens}
    answer = await ask(http, body, keep=how != "plain")
    if channel is None:
        if how == "get":
            again = await resume(http, answer.stream_id, 0)
            await answer.close()
            answer = again
        stack.push_async_callback(answer.close)
        return asyncio.create_task(_pull(answer, reader))
    first = asyncio.get_running_loop().create_future()

    def deliver(number: int, data: bytes) -> None:
        reader.take(1)
        if not first.done():
            first.set_result(None)

    channel.follow(answer.stream_id, 0, deliver, lambda reason: None)
    await first
    await answer.close()
    return None


async def run(url: str, how: ReadBy, streams: int, seconds: float, tokens: int, ready: Path) -> Window:
    """Read streams at once for `seconds`; `ready` is written when all of them flow."""
    window = Window()
    readers = [_Reader(window) for _ in range(streams)]
    async with AsyncExitStack() as stack:
        limits = httpx.Limits(max_connections=None)
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=None, limits=limits))
        channels: list[Channel | None] = [None] * streams
        if how == "eloquent":
            channels = [await _open(http, stack, reader) for reader in readers]
        begun = await asyncio.gather(
            *(
                _read(http, stack, how, tokens, reader, channel)
                for reader, channel in zip(readers, channels, strict=True)
            )
        )
        tasks = [task for task in begun if task is not None]
        await asyncio.sleep(1.0)
        await asyncio.to_thread(ready.touch)
        began, spent = time.perf_counter(), time.process_time()
        for reader in readers:
            reader.open = True
        await asyncio.sleep(seconds)
        for reader in readers:
            reader.open = False
        window.seconds = time.perf_counter() - began
        window.client_core = (time.process_time() - spent) / window.seconds
        median = statistics.median(reader.events for reader in readers)
        window.failed = sum(reader.events < 0.9 * median for reader in readers)
        await asyncio.to_thread(ready.with_suffix(".done").touch)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return window


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--how", required=True, choices=("plain", "post", "get", "eloquent"))
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--ready", type=Path, required=True)
    asked = parser.parse_args()
    window = uvloop.run(run(asked.url, asked.how, asked.streams, asked.seconds, asked.tokens, asked.ready))
    print(json.dumps(asdict(window)))


if __name__ == "__main__":
    main()
