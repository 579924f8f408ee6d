"""When the client goes, the engine's request is aborted within 100 ms, wherever it is."""

from __future__ import annotations

import time

import pytest

from engine_adapter.fake import Phase, Timing
from gateway.relay.settings import Admission, RelaySettings

from .conftest import CHAT, StartEngine, StartGateway, post_bytes, until

LIMIT = 0.1
LONG = Timing(prefill_base_s=0.0, itl_base_s=0.02)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.PREFILL, Phase.DECODE])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_the_engine_is_told_in_every_phase(
    start_engine: StartEngine, start_gateway: StartGateway, phase: Phase, stream: bool, how: str
) -> None:
    timing = LONG if phase is Phase.DECODE else Timing(prefill_base_s=60.0)
    engine = await start_engine(timing=timing, answer_tokens=10_000, max_num_seqs=1)
    gateway = await start_gateway(engine)
    if phase is Phase.QUEUED:
        first = await gateway.connect()
        first.send(post_bytes(CHAT | {"stream": True}))
        await engine.stats.until(lambda stats: stats.running == 1)
    client = await gateway.connect()
    client.send(post_bytes(CHAT | {"stream": stream}, x_request_id="mine"))
    if phase is Phase.QUEUED:
        await engine.stats.until(lambda stats: stats.waiting == 1)
    else:
        await engine.stats.until(lambda stats: stats.running == 1)
    if phase is Phase.DECODE:
        await until(lambda: engine.running[0].phase is Phase.DECODE)
    left = time.time()
    if how == "reset":
        client.reset()
    else:
        client.writer.close()
    await engine.stats.until(lambda stats: stats.aborted_total == 1)
    abort = engine.stats.aborts[0]
    assert abort.x_request_id == "mine"
    assert abort.phase is phase
    assert abort.at - left < LIMIT
    await until(lambda: len(gateway.records) == 1)
    assert gateway.records[0].end == "client_gone"


async def test_a_client_that_leaves_the_gateways_own_queue(
    start_engine: StartEngine, start_gateway: StartGateway
) -> None:
    engine = await start_engine(timing=Timing(prefill_base_s=60.0))
    gateway = await start_gateway(engine, settings=RelaySettings(admission=Admission(per_worker=1)))
    clients = [await gateway.connect() for _ in range(3)]
    for n, client in enumerate(clients):
        client.send(post_bytes(CHAT))
        await until(lambda n=n: gateway.accounting.active == n + 1)
    assert len(gateway.relay.waiting) == 2
    clients[1].reset()
    await until(lambda: len(gateway.relay.waiting) == 1)
    clients[0].reset()
    await engine.stats.until(lambda stats: stats.inference_requests == 2)
    assert gateway.worker().in_flight == 1
    assert engine.stats.aborted_total == 1


async def test_a_client_that_leaves_while_a_connection_is_opened(
    start_gateway: StartGateway, full_listener: str
) -> None:
    gateway = await start_gateway(full_listener)
    client = await gateway.connect()
    client.send(post_bytes(CHAT))
    await until(lambda: gateway.accounting.active == 1)
    client.reset()
    await gateway.quiet()


async def test_a_pipelined_request_behind_does_not_hide_that_the_client_left(
    start_engine: StartEngine, start_gateway: StartGateway
) -> None:
    engine = await start_engine(timing=Timing(prefill_base_s=60.0))
    gateway = await start_gateway(engine)
    client = await gateway.connect()
    client.send(post_bytes(CHAT) * 3)
    await engine.stats.until(lambda stats: stats.running == 1)
    left = time.time()
    client.writer.close()
    await engine.stats.until(lambda stats: stats.aborted_total == 1)
    assert engine.stats.aborts[0].at - left < LIMIT
    await gateway.quiet()
    assert engine.stats.inference_requests == 1


async def test_a_half_closed_client_counts_as_gone(
    start_engine: StartEngine, start_gateway: StartGateway
) -> None:
    engine = await start_engine(timing=Timing(prefill_base_s=60.0))
    gateway = await start_gateway(engine)
    client = await gateway.connect()
    client.send(post_bytes(CHAT))
    await engine.stats.until(lambda stats: stats.running == 1)
    client.writer.write_eof()
    await engine.stats.until(lambda stats: stats.aborted_total == 1)


async def test_a_finished_request_is_not_aborted(
    start_engine: StartEngine, start_gateway: StartGateway
) -> None:
    engine = await start_engine()
    gateway = await start_gateway(engine)
    for stream in (True, False):
        client = await gateway.connect()
        client.send(post_bytes(CHAT | {"stream": stream}))
        assert (await client.answer()).status == 200
        client.reset()
    await gateway.quiet()
    assert engine.stats.aborted_total == 0
    assert [record.end for record in gateway.records] == ["ok", "ok"]
