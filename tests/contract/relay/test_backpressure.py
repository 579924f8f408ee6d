"""A slow reader slows its worker, costs a bounded number of bytes, and is dropped when it stops reading."""

from __future__ import annotations

import asyncio

import pytest

from gateway.relay.settings import HttpLimits, RelaySettings, Timeouts

from .conftest import (
    CHAT,
    EVENT,
    SSE_HEAD,
    Gateway,
    RawClient,
    Scripts,
    StartGateway,
    chunked,
    post_bytes,
    until,
)

STREAM = post_bytes(CHAT | {"stream": True})
PIECE = chunked(EVENT * 100)
SMALL = HttpLimits(stream_buffer_bytes=64 * 1024)
SOCKETS = 8 * 1024 * 1024
"""More than the kernel buffers of two loopback connections hold."""


class Flood:
    """A worker that sends as fast as it is read."""

    def __init__(self, scripts: Scripts, *, document: bool = False) -> None:
        self.sent = 0
        self.blocked = False
        self._scripts = scripts
        self._document = document

    async def start(self) -> str:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await worker.request(reader)
            if self._document:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: a/b\r\ncontent-length: 1000000000\r\n\r\n")
            else:
                writer.write(SSE_HEAD)
            while True:
                writer.write(PIECE)
                self.sent += len(PIECE)
                try:
                    await asyncio.wait_for(writer.drain(), 0.1)
                except TimeoutError:
                    self.blocked = True
                    await writer.drain()
                    self.blocked = False
                await asyncio.sleep(0)

        worker, url = await self._scripts.run(script)
        return url


def unsent(gateway: Gateway) -> int:
    """Bytes that the gateway holds for its clients."""
    return sum(c.transport.get_write_buffer_size() for c in gateway.server.server_state.connections)


async def read(client: RawClient, count: int) -> int:
    got = 0
    while got < count:
        got += len(await asyncio.wait_for(client.reader.read(65536), 5))
    return got


@pytest.mark.parametrize("document", [False, True], ids=["stream", "document"])
async def test_a_reader_that_does_not_read_stops_its_worker(
    start_gateway: StartGateway, scripts: Scripts, document: bool
) -> None:
    flood = Flood(scripts, document=document)
    gateway = await start_gateway(await flood.start(), settings=RelaySettings(limits=SMALL))
    client = await gateway.connect(receive_buffer=4096)
    client.send(STREAM)
    await until(lambda: flood.blocked)
    assert 0 < unsent(gateway) <= SMALL.stream_buffer_bytes + 512 * 1024
    assert flood.sent < SOCKETS
    held = flood.sent
    await read(client, 2 * held)
    await until(lambda: flood.sent > 2 * held)
    client.reset()
    await gateway.quiet()
    assert gateway.records[0].end == "client_gone"


async def test_others_on_the_same_worker_are_not_slowed(
    start_gateway: StartGateway, scripts: Scripts
) -> None:
    flood = Flood(scripts)
    gateway = await start_gateway(await flood.start(), settings=RelaySettings(limits=SMALL))
    slow = await gateway.connect(receive_buffer=4096)
    slow.send(STREAM)
    await until(lambda: flood.blocked)
    quick = await gateway.connect()
    quick.send(STREAM)
    assert await read(quick, 4 * SOCKETS) >= 4 * SOCKETS


async def test_a_stalled_reader_is_dropped_with_a_reason(
    start_gateway: StartGateway, scripts: Scripts
) -> None:
    flood = Flood(scripts)
    settings = RelaySettings(limits=SMALL, timeouts=Timeouts(stalled_client=0.2, silence=0.1))
    gateway = await start_gateway(await flood.start(), settings=settings)
    client = await gateway.connect(receive_buffer=4096)
    client.send(STREAM)
    await until(lambda: gateway.records)
    assert gateway.records[0].end == "client_stalled"
    await until(lambda: not gateway.server.server_state.connections)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await client.reader.readexactly(10 * SOCKETS)


async def test_a_slow_reader_that_reads_is_not_dropped(start_gateway: StartGateway, scripts: Scripts) -> None:
    flood = Flood(scripts)
    settings = RelaySettings(limits=SMALL, timeouts=Timeouts(stalled_client=0.5, silence=0.2))
    gateway = await start_gateway(await flood.start(), settings=settings)
    client = await gateway.connect(receive_buffer=65536)
    client.send(STREAM)
    await until(lambda: flood.blocked)
    for _ in range(8):
        await read(client, 512 * 1024)
        await asyncio.sleep(0.1)
    assert gateway.accounting.active == 1


async def test_an_answer_behind_one_that_is_not_read_is_held_back_too(
    start_gateway: StartGateway, scripts: Scripts
) -> None:
    """The next answer on the connection begins while the client has not taken the one before."""
    size = 4 * SOCKETS // 4
    flood = Flood(scripts)
    served = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        await worker.request(reader)
        served += 1
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + bytes(size))
        await worker.request(reader)
        served += 1
        writer.write(SSE_HEAD)
        while True:
            writer.write(PIECE)
            flood.sent += len(PIECE)
            await writer.drain()

    worker, url = await scripts.run(script)
    limits = HttpLimits(stream_buffer_bytes=size)
    gateway = await start_gateway(url, settings=RelaySettings(limits=limits))
    client = await gateway.connect(receive_buffer=4096)
    client.send(STREAM * 2)
    await until(lambda: served == 2)
    await until(lambda: unsent(gateway) >= size // 2)
    await asyncio.sleep(0.3)
    assert unsent(gateway) < 2 * size
    assert flood.sent < 3 * size


async def test_an_idle_connection_with_an_answer_that_nobody_takes_is_closed(
    start_gateway: StartGateway, scripts: Scripts
) -> None:
    size = SOCKETS
    _, url = await scripts.answering(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + bytes(size))
    limits = HttpLimits(keep_alive_seconds=0.1, stream_buffer_bytes=2 * size)
    gateway = await start_gateway(url, settings=RelaySettings(limits=limits))
    client = await gateway.connect(receive_buffer=4096)
    client.send(STREAM)
    await until(lambda: gateway.records)
    assert unsent(gateway) > 0

    def swept() -> bool:
        for connection in list(gateway.server.server_state.connections):
            connection.close_if_idle(gateway.relay.now())  # type: ignore[union-attr]
        return not gateway.server.server_state.connections

    await until(swept)
