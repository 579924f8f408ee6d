"""A load client that costs little: raw HTTP/1.1 over asyncio protocols, one request at a time per connection.

Run as a process of its own (`python -m loadtests.bench.client ...`), so that it can be pinned to a core; it
prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

import uvloop

MODEL = "bench"


@dataclass(slots=True)
class Answer:
    """Times in seconds since the request was written."""

    ok: bool
    first: float = 0.0
    total: float = 0.0
    events: int = 0
    stamps: list[float] = field(default_factory=list)
    """When each read that held events came, absolute."""


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.closed = False
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(ok=False))

    def request(self, payload: bytes) -> asyncio.Future[Answer]:
        """Send a request; its answer will say how it went."""
        self._answer = asyncio.get_running_loop().create_future()
        self._head = self._tail = b""
        self._length = -1
        self._received = 0
        self._first = 0.0
        self._events = 0
        self._stamps: list[float] = []
        self._start = time.perf_counter()
        self.transport.write(payload)
        return self._answer

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self._length < 0:
            head, separator, data = (self._head + data).partition(b"\r\n\r\n")
            self._head = head
            if not separator:
                return
            self._head = head.lower() + b"\r\n"
            self._length = 0
            for line in self._head.split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    self._length = int(line[15:])
        if data:
            if not self._first:
                self._first = now
            self._received += len(data)
            if b"data:" in data:
                self._stamps.append(now)
                self._events += data.count(b"data:")
        chunked = b"\r\ntransfer-encoding: chunked\r\n" in self._head
        self._tail = (self._tail + data)[-7:]
        done = self._tail == b"\r\n0\r\n\r\n" if chunked else self._received >= self._length
        if done and self._answer is not None and not self._answer.done():
            ok = self._head.startswith(b"http/1.1 200 ")
            start = self._start
            self._answer.set_result(Answer(ok, self._first - start, now - start, self._events, self._stamps))


@dataclass(slots=True)
class Result:
    """Figures of one load. Milliseconds where the name says so."""

    ok: int
    failed: int
    seconds: float
    events: int
    first_p50_ms: float
    first_p99_ms: float
    total_p50_ms: float
    gap_p99_ms: float
    gap_max_ms: float

    @property
    def requests_per_s(self) -> float:
        return self.ok / self.seconds


def payload(
    url: str, *, stream: bool, tokens: int, prompt_bytes: int, key: str = "", headers: str = ""
) -> bytes:
    """A chat completion request as bytes: a system prompt, and a question of `prompt_bytes`."""
    body = json.dumps(
        {
            "model": MODEL,
            "stream": stream,
            "max_tokens": tokens,
            "messages": [
                {"role": "system", "content": "You are a helpful assistant. " * 8},
                {"role": "user", "content": "Tell me a story. " + "x" * prompt_bytes},
            ],
        }
    ).encode()
    authorization = f"authorization: Bearer {key}\r\n" if key else ""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\n{authorization}{headers}"
        f"content-type: application/json\r\naccept: */*\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def quantile(values: list[float], q: float) -> float:
    """By rank, without interpolation; NaN of nothing."""
    return sorted(values)[min(len(values) - 1, int(q * len(values)))] if values else float("nan")


async def run(url: str, request: bytes, *, connections: int, seconds: float, requests: int) -> Result:
    """Keep `connections` busy for `seconds`, or until `requests` have been sent (0: no limit)."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    answers: list[Answer] = []
    failed = 0
    left = requests or 1 << 60
    end = time.perf_counter() + seconds

    async def worker() -> None:
        nonlocal failed, left
        connection: Connection | None = None
        while left > 0 and time.perf_counter() < end:
            left -= 1
            if connection is None or connection.closed:
                _, connection = await loop.create_connection(Connection, parts.hostname, parts.port)
            answer = await connection.request(request)
            if answer.ok:
                answers.append(answer)
            else:
                failed += 1
                connection.transport.close()
                connection = None
        if connection is not None:
            connection.transport.close()

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(connections)))
    took = time.perf_counter() - started
    gaps = [later - sooner for a in answers for sooner, later in zip(a.stamps, a.stamps[1:], strict=False)]
    first = [a.first for a in answers]
    return Result(
        ok=len(answers),
        failed=failed,
        seconds=took,
        events=sum(a.events for a in answers),
        first_p50_ms=quantile(first, 0.5) * 1e3,
        first_p99_ms=quantile(first, 0.99) * 1e3,
        total_p50_ms=quantile([a.total for a in answers], 0.5) * 1e3,
        gap_p99_ms=quantile(gaps, 0.99) * 1e3,
        gap_max_ms=max(gaps, default=float("nan")) * 1e3,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt-bytes", type=int, default=400)
    parser.add_argument("--key", default="")
    a = parser.parse_args()
    request = payload(a.url, stream=a.stream, tokens=a.tokens, prompt_bytes=a.prompt_bytes, key=a.key)
    result = uvloop.run(
        run(a.url, request, connections=a.connections, seconds=a.seconds, requests=a.requests)
    )
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
