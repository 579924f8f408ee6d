"""What is large: a thousand streams at once through one process, and bodies as images and long contexts make
them."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator

import orjson
import pytest

from gateway.relay.settings import Admission, RelaySettings

from .conftest import (
    CHAT,
    DONE,
    EVENT,
    LAST_CHUNK,
    SSE_HEAD,
    Scripts,
    StartEngine,
    StartGateway,
    chunked,
    post_bytes,
    until,
)

STREAMS = 1000
ROOM = RelaySettings(admission=Admission(per_worker=STREAMS))


@pytest.fixture
def descriptors() -> Iterator[None]:
    """A stream takes four: both ends of the client's connection, both ends of the worker's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 5 * STREAMS
    if soft < wanted:
        if hard < wanted:
            pytest.skip(f"this machine allows {hard} open files")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def unchunked(raw: bytes) -> bytes:
    payload = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        payload += raw[: int(size, 16)]
        raw = raw[int(size, 16) + 2 :]
    return payload


async def test_a_thousand_streams_at_once_all_end_well(
    start_gateway: StartGateway, scripts: Scripts, descriptors: None
) -> None:
    """None begins to end before all have begun, so that all are open at one moment."""
    all_are_here = asyncio.Event()
    arrived = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        await worker.request(reader)
        writer.write(SSE_HEAD + chunked(EVENT))
        arrived += 1
        if arrived == STREAMS:
            all_are_here.set()
        await all_are_here.wait()
        writer.write(chunked(EVENT) + chunked(DONE) + LAST_CHUNK)

    worker, url = await scripts.run(script)
    gateway = await start_gateway(url, settings=ROOM)
    limit = asyncio.Semaphore(100)

    async def one() -> tuple[bytes, bytes]:
        async with limit:  # how many connect at once, not how many are open
            client = await gateway.connect()
            client.send(post_bytes(CHAT | {"stream": True}))
        await asyncio.wait_for(all_are_here.wait(), 60)
        head = await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 60)
        return head[:15], unchunked(await asyncio.wait_for(client.reader.readuntil(LAST_CHUNK), 60))

    answers = await asyncio.gather(*(one() for _ in range(STREAMS)))
    assert set(answers) == {(b"HTTP/1.1 200 OK", EVENT * 2 + DONE)}
    await gateway.quiet(60)
    assert [record.end for record in gateway.records] == ["ok"] * STREAMS
    assert gateway.worker().in_flight == 0


async def test_a_body_of_fifty_megabytes_arrives_whole(start_gateway: StartGateway, scripts: Scripts) -> None:
    image = "data:image/png;base64," + "iVBORw0KGgoA" * (50_000_000 // 12)
    parts = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": "What is it?"}]
    body = orjson.dumps({"model": "fake", "messages": [{"role": "user", "content": parts}]})
    worker, url = await scripts.answering(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    )
    gateway = await start_gateway(url)
    client = await gateway.connect()
    client.send(post_bytes(body))
    await asyncio.wait_for(client.writer.drain(), 60)
    await until(lambda: worker.requests, 60)
    assert (await client.answer()).status == 200
    assert worker.requests[0].endswith(body)


async def test_a_body_over_the_limit_is_refused_before_it_is_read(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    engine = await start_engine()
    gateway = await start_gateway(engine)
    head = post_bytes(b"", content_length=str(gateway.relay.settings.limits.body_bytes + 1))
    answer = await gateway.ask(head)
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert str(gateway.relay.settings.limits.body_bytes) in answer.error["message"]
    assert engine.stats.inference_requests == 0
