"""Recorded answers of engines over real sockets, in reads of every usual and unusual size."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from .conftest import Scripts, StartGateway, post_bytes

RECORDINGS = Path(__file__).parent / "recordings"
FILES = {f"{file.parent.name}/{file.stem}": file.read_bytes() for file in sorted(RECORDINGS.glob("*/*.http"))}
PATHS = {
    "chat": "/v1/chat/completions",
    "completion": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}


@pytest.mark.parametrize("name", FILES)
async def test_the_body_is_the_engines_own(start_gateway: StartGateway, scripts: Scripts, name: str) -> None:
    raw = FILES[name]
    sizes = [len(raw), 1000, 100, 13]

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for size in sizes:
            await worker.request(reader)
            for start in range(0, len(raw), size):
                writer.write(raw[start : start + size])
                await writer.drain()
                await asyncio.sleep(0)

    worker, url = await scripts.run(script)
    gateway = await start_gateway(url)
    path = PATHS.get(name.partition("/")[2].partition("-")[0], "/v1/embeddings")
    client = await gateway.connect()
    for _ in sizes:
        client.send(post_bytes(path=path))
        answer = await client.answer()
        assert answer.status == int(raw[9:12])
        assert answer.body == _body(raw)
    assert worker.connections == 1
    await gateway.quiet()
    assert {record.end for record in gateway.records} == {"ok"}


def _body(raw: bytes) -> bytes:
    head, _, framed = raw.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head:
        return framed
    body = b""
    while (size := int(re.match(rb"[0-9a-f]+", framed)[0], 16)) > 0:  # type: ignore[index]
        start = framed.index(b"\r\n") + 2
        body += framed[start : start + size]
        framed = framed[start + size + 2 :]
    return body
