"""Each wait has a limit of its own, and each limit says in the answer which one it was."""

from __future__ import annotations

import pytest

from engine_adapter.fake import Fault, Timing
from gateway.relay.settings import Admission, RelaySettings, Timeouts

from .conftest import (
    CHAT,
    EVENT,
    JSON_OK,
    SSE_HEAD,
    Scripts,
    StartEngine,
    StartGateway,
    chunked,
    post_bytes,
    until,
)


def limits(**seconds: float) -> RelaySettings:
    return RelaySettings(timeouts=Timeouts(**seconds), ping_seconds=0)


async def test_connect(start_gateway: StartGateway, full_listener: str) -> None:
    gateway = await start_gateway(full_listener, settings=limits(connect=0.1))
    answer = await gateway.ask(post_bytes())
    assert answer.status == 504
    assert "did not accept a connection in 0.1 s" in answer.error["message"]
    await gateway.quiet()
    assert gateway.records[0].end == "timeout_connect"


async def test_connect_then_another_worker(
    start_gateway: StartGateway, start_engine: StartEngine, full_listener: str
) -> None:
    engine = await start_engine()
    gateway = await start_gateway(full_listener, engine, settings=limits(connect=0.1), policy="least_load")
    for _ in range(2):
        assert (await gateway.ask(post_bytes())).status == 200
    assert gateway.accounting.retries["timeout"] >= 1


async def test_the_gateways_queue(start_gateway: StartGateway, start_engine: StartEngine) -> None:
    engine = await start_engine(timing=Timing(prefill_base_s=60))
    settings = RelaySettings(timeouts=Timeouts(queue=0.1), admission=Admission(per_worker=1))
    gateway = await start_gateway(engine, settings=settings)
    first = await gateway.connect()
    first.send(post_bytes())
    await until(lambda: gateway.worker().in_flight == 1)
    answer = await gateway.ask(post_bytes())
    assert (answer.status, answer.error["code"]) == (503, "queue_timeout")
    assert answer.headers["retry-after"] == "1"
    assert "connection" not in answer.headers


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("point", ["before-headers", "after-headers"])
async def test_first_byte(
    start_gateway: StartGateway, start_engine: StartEngine, stream: bool, point: str
) -> None:
    engine = await start_engine(faults=(Fault("hang", point=point),))  # type: ignore[arg-type]
    gateway = await start_gateway(engine, settings=limits(first_byte=0.1))
    answer = await gateway.ask(post_bytes(CHAT | {"stream": stream}))
    assert answer.status == 504
    assert "did not answer within 0.1 s" in answer.error["message"]
    await engine.stats.until(lambda stats: stats.aborted_total == 1)
    await gateway.quiet()
    assert gateway.records[0].end == "timeout_first_byte"


async def test_silence_between_events(start_gateway: StartGateway, start_engine: StartEngine) -> None:
    engine = await start_engine(faults=(Fault("hang", point="event", after_events=3),))
    gateway = await start_gateway(engine, settings=limits(silence=0.1))
    client = await gateway.connect()
    client.send(post_bytes(CHAT | {"stream": True}))
    answer = await client.answer()
    assert answer.status == 200
    *events, last, rest = answer.body.split(b"\n\n")
    assert rest == b""
    assert len(events) == 3
    assert last.startswith(b'data: {"error":{"message":"The worker sent nothing for 0.1 s.')
    assert await client.ended()
    await gateway.quiet()
    assert gateway.records[0].end == "timeout_silence"
    await engine.stats.until(lambda stats: stats.aborted_total == 1)


async def test_silence_inside_a_document(start_gateway: StartGateway, scripts: Scripts) -> None:
    _, url = await scripts.silent(JSON_OK[:-1])
    gateway = await start_gateway(url, settings=limits(silence=0.1))
    client = await gateway.connect()
    client.send(post_bytes())
    assert (await client.rest()).endswith(b"\r\n\r\n{")
    await gateway.quiet()
    assert gateway.records[0].end == "timeout_silence"


async def test_a_stream_may_last_longer_than_every_limit(
    start_gateway: StartGateway, scripts: Scripts
) -> None:
    _, url = await scripts.answering(
        SSE_HEAD, *[chunked(EVENT)] * 12, chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n", pause=0.06
    )
    gateway = await start_gateway(url, settings=limits(connect=0.3, queue=0.3, first_byte=0.3, silence=0.3))
    answer = await gateway.ask(post_bytes(CHAT | {"stream": True}))
    assert answer.body == EVENT * 12 + b"data: [DONE]\n\n"


async def test_limits_by_header_and_by_model(start_gateway: StartGateway, start_engine: StartEngine) -> None:
    engine = await start_engine(faults=(Fault("hang"),))
    settings = RelaySettings(model_timeouts={"slow": Timeouts(first_byte=0.1)})
    gateway = await start_gateway(engine, settings=settings, models=("fake", "slow"))
    by_model = await gateway.ask(post_bytes(CHAT | {"model": "slow"}))
    by_header = await gateway.ask(post_bytes(x_sluice_timeout_first_byte="0.1"))
    refused = await gateway.ask(post_bytes(x_sluice_timeout_first_byte="soon"))
    assert (by_model.status, by_header.status, refused.status) == (404, 504, 400)
    assert refused.error["param"] == "x-sluice-timeout-first-byte"
