"""Stopping: running answers finish, new ones are not kept alive, and what is left is told so."""

from __future__ import annotations

import asyncio

from engine_adapter.fake import Timing
from gateway.relay.settings import Admission, RelaySettings

from .conftest import (
    CHAT,
    DONE,
    EVENT,
    JSON_OK,
    LAST_CHUNK,
    SSE_HEAD,
    Gateway,
    Scripts,
    StartEngine,
    StartGateway,
    chunked,
    post_bytes,
    until,
)

STREAM = post_bytes(CHAT | {"stream": True})


async def stopping(gateway: Gateway) -> list[asyncio.Task[None]]:
    """Begin what SIGTERM begins: drain, and no new connections."""
    drain = gateway.relay.loop.create_task(gateway.relay.drain())
    gateway.server.stop()
    await until(lambda: gateway.relay.draining)
    return [drain, gateway.serving]


async def test_running_answers_finish(start_gateway: StartGateway, start_engine: StartEngine) -> None:
    engine = await start_engine(timing=Timing(itl_base_s=0.01), answer_tokens=30)
    gateway = await start_gateway(engine)
    clients = [await gateway.connect() for _ in range(4)]
    for n, client in enumerate(clients):
        client.send(post_bytes(CHAT | {"stream": n % 2 == 0}))
    await engine.stats.until(lambda stats: stats.running == 4)
    tasks = await stopping(gateway)
    for n, client in enumerate(clients):
        answer = await client.answer()
        assert answer.status == 200
        assert answer.body.endswith(DONE) == (n % 2 == 0)
        assert await client.ended()
    await asyncio.gather(*tasks)
    assert [record.end for record in gateway.records] == ["ok"] * 4
    assert engine.stats.aborted_total == 0


async def test_what_does_not_finish_is_told(start_gateway: StartGateway, scripts: Scripts) -> None:
    answers = [SSE_HEAD + chunked(EVENT), JSON_OK[:-1], b""]

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await worker.request(reader)
        writer.write(answers[worker.connections - 1])
        await reader.read()

    worker, url = await scripts.run(script)
    settings = RelaySettings(drain_seconds=0.2, admission=Admission(per_worker=3))
    gateway = await start_gateway(url, settings=settings)
    clients = []
    for n in range(4):
        clients.append(await gateway.connect())
        clients[-1].send(STREAM)
        await until(lambda n=n: len(worker.requests) == min(n + 1, 3) and gateway.accounting.active == n + 1)
    stream, document, early, queued = clients
    await until(lambda: sum(e.state.name == "ANSWERING" for e in gateway.relay.exchanges) == 2)
    tasks = await stopping(gateway)
    told = await stream.answer()
    assert told.body.startswith(EVENT + b'data: {"error":{"message":"The gateway is shutting down."')
    assert told.raw_body.endswith(LAST_CHUNK)
    assert (await document.rest()).endswith(b"{")
    for client in (early, queued):
        answer = await client.answer()
        assert (answer.status, answer.error["code"]) == (503, "shutting_down")
        assert answer.headers["connection"] == "close"
    await asyncio.gather(*tasks)
    assert [record.end for record in gateway.records] == ["drained"] * 4


async def test_a_request_that_is_being_sent_is_still_answered(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    gateway = await start_gateway(await start_engine())
    in_head, in_body, idle = [await gateway.connect() for _ in range(3)]
    in_head.send(STREAM[:30])
    in_body.send(STREAM[:-10])
    await until(lambda: len(gateway.server.server_state.connections) == 3)
    await until(
        lambda: (
            sum(bool(c._family) or c._head_bytes >= 0 for c in gateway.server.server_state.connections) == 2
        )  # type: ignore[union-attr]
    )
    await stopping(gateway)
    assert await idle.ended()
    in_head.send(STREAM[30:])
    in_body.send(STREAM[-10:])
    for client in (in_head, in_body):
        answer = await client.answer()
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert await client.ended()


async def test_keep_alive_ends(start_gateway: StartGateway, start_engine: StartEngine) -> None:
    gateway = await start_gateway(await start_engine())
    client = await gateway.connect()
    client.send(STREAM)
    assert "connection" not in (await client.answer()).headers
    gateway.relay.draining = True
    client.send(STREAM)
    assert (await client.answer()).headers["connection"] == "close"
    assert await client.ended()
