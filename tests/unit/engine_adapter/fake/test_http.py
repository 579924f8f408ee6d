"""The server's HTTP manners."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from engine_adapter.fake import FakeEngine

if TYPE_CHECKING:
    from conftest import RawClient

StartEngine = Callable[..., Awaitable[FakeEngine]]
Connect = Callable[[FakeEngine], "Awaitable[RawClient]"]


async def test_a_connection_serves_many_requests(engine: FakeEngine, connect: Connect) -> None:
    raw = await connect(engine)
    for _ in range(3):
        raw.writer.write(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await raw.read_until(b'"}')).endswith(b'{"version":"0.32.0"}')
    assert (engine.stats.connections_seen, engine.stats.requests_seen) == (1, 3)


async def test_pipelined_requests_are_answered_in_order(
    engine: FakeEngine, connect: Connect, chat_body: dict[str, Any]
) -> None:
    raw = await connect(engine)
    for number in range(40):
        raw.post(
            "/v1/chat/completions", chat_body | {"stream": number % 2 == 0}, x_request_id=f"r{number:02d}"
        )
    received = b""
    for number in range(40):
        received += await raw.read_until(b"0\r\n\r\n" if number % 2 == 0 else b'"metrics":null}')
    found = [received.index(f"chatcmpl-r{number:02d}".encode()) for number in range(40)]
    assert found == sorted(found)


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("how", ["connection: close", "http/1.0"])
async def test_closing_when_asked(
    engine: FakeEngine, connect: Connect, chat_body: dict[str, Any], how: str, streaming: bool
) -> None:
    raw = await connect(engine)
    content = orjson.dumps(chat_body | {"stream": streaming})
    version, line = ("1.0", b"") if how == "http/1.0" else ("1.1", b"connection: close\r\n")
    raw.writer.write(
        b"POST /v1/chat/completions HTTP/%b\r\nhost: x\r\ncontent-type: application/json\r\n%b"
        b"content-length: %d\r\n\r\n%b" % (version.encode(), line, len(content), content)
    )
    head, _, body = (await raw.read_to_end()).partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert (b"transfer-encoding: chunked" in head) == (streaming and version == "1.1")
    if streaming and version == "1.0":
        assert body.startswith(b"data: {")
        assert body.endswith(b"data: [DONE]\n\n")


async def test_expect_100_continue(engine: FakeEngine, connect: Connect, chat_body: dict[str, Any]) -> None:
    raw = await connect(engine)
    content = orjson.dumps(chat_body)
    raw.writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(content)
    )
    assert await raw.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    raw.writer.write(content)
    assert (await raw.read_until(b"\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_chunked_request_body(
    engine: FakeEngine, connect: Connect, chat_body: dict[str, Any]
) -> None:
    raw = await connect(engine)
    content = orjson.dumps(chat_body)
    raw.writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    for start in range(0, len(content), 10):
        part = content[start : start + 10]
        raw.writer.write(b"%x\r\n%b\r\n" % (len(part), part))
    raw.writer.write(b"0\r\n\r\n")
    assert (await raw.read_until(b"\r\n")).startswith(b"HTTP/1.1 200")


async def test_head_is_answered_without_a_body(engine: FakeEngine, connect: Connect) -> None:
    raw = await connect(engine)
    raw.writer.write(b"HEAD /health HTTP/1.1\r\nhost: x\r\n\r\nGET /version HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await raw.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 405")
    assert (await raw.read_until(b"\r\n")).startswith(b"HTTP/1.1 200")


async def test_what_is_not_http_is_refused(engine: FakeEngine, connect: Connect) -> None:
    raw = await connect(engine)
    raw.writer.write(b"this is no request\r\n\r\n")
    received = await raw.read_to_end()
    assert received.startswith(b"HTTP/1.1 400")
    assert received.endswith(b"Invalid HTTP request received.")


async def test_idle_connections_are_closed_when_told_to(start_engine: StartEngine, connect: Connect) -> None:
    engine = await start_engine(keep_alive_s=0.05)
    raw = await connect(engine)
    raw.writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    await raw.read_until(b"\r\n\r\n")
    assert await raw.read_to_end() == b""
    assert engine.stats.connections_open == 0


async def test_stopping_drops_connections_and_frees_the_port(
    connect: Connect, chat_body: dict[str, Any]
) -> None:
    engine = FakeEngine()
    await engine.start()
    raw = await connect(engine)
    raw.post("/v1/chat/completions", chat_body, x_fake_fault="hang")
    await engine.stats.until(lambda stats: stats.running == 1)
    await engine.stop()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await raw.reader.readexactly(1)
    url = engine.url
    assert await engine.start() == url
    with pytest.raises(RuntimeError, match="already started"):
        await engine.start()
    await engine.stop()
