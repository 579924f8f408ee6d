"""A started engine and an HTTP client for it, and raw sockets for what no client library lets through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import orjson
import pytest

from engine_adapter.fake import FakeEngine, FakeEngineConfig

StartEngine = Callable[..., Awaitable[FakeEngine]]


@pytest.fixture
async def start_engine() -> AsyncIterator[StartEngine]:
    """Start an engine with the given config fields; it is stopped after the test."""
    async with AsyncExitStack() as stack:

        async def start(**fields: Any) -> FakeEngine:
            return await stack.enter_async_context(FakeEngine(FakeEngineConfig(**fields)))

        yield start


@pytest.fixture
async def engine(start_engine: StartEngine) -> FakeEngine:
    """An engine with all defaults."""
    return await start_engine()


@pytest.fixture
async def client(engine: FakeEngine) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of `engine`."""
    # Here and in the tests: `verify=False` only saves loading certificates, which costs more than a test.
    async with httpx.AsyncClient(base_url=engine.url, timeout=5, verify=False) as client:
        yield client


@pytest.fixture
def chat_body() -> dict[str, Any]:
    """A small chat request."""
    return {"messages": [{"role": "user", "content": "Tell me about the fox."}], "max_tokens": 6}


class RawClient:
    """A TCP connection that sends and receives bytes as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def post(self, path: str, body: dict[str, Any], **headers: str) -> None:
        """Send a request with a JSON body; `_` in header names stands for `-`."""
        content = orjson.dumps(body)
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n{lines}"
        self.writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)

    async def read_to_end(self) -> bytes:
        """All bytes until the peer's FIN; raises ConnectionResetError on its RST."""
        async with asyncio.timeout(5):
            return await self.reader.read()

    async def read_until(self, mark: bytes) -> bytes:
        """Bytes up to and including `mark`."""
        async with asyncio.timeout(5):
            return await self.reader.readuntil(mark)

    async def close(self) -> None:
        """Close, whatever the peer did."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[FakeEngine], Awaitable[RawClient]]]:
    """Open a raw connection to an engine; it is closed after the test."""
    async with AsyncExitStack() as stack:

        async def open_connection(engine: FakeEngine) -> RawClient:
            host, _, port = engine.url.removeprefix("http://").rpartition(":")
            raw = RawClient(*await asyncio.open_connection(host, int(port), limit=1 << 25))
            stack.push_async_callback(raw.close)
            return raw

        yield open_connection


def events_of(stream: bytes | str) -> list[tuple[str | None, Any]]:
    """The events of an SSE stream as (event name, parsed data); `[DONE]` stays text."""
    text = stream.decode() if isinstance(stream, bytes) else stream
    events = []
    for block in text.split("\n\n")[:-1]:
        name, data = None, None
        for line in block.split("\n"):
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                data = value if value == "[DONE]" else orjson.loads(value)
        events.append((name, data))
    return events


@pytest.fixture
def sse() -> Callable[[bytes | str], list[tuple[str | None, Any]]]:
    """Parser of SSE streams."""
    return events_of
