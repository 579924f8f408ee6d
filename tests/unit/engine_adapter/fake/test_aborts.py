"""A client that leaves is noticed at once, in whatever phase its request is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from engine_adapter.fake import FakeEngine, Phase, Timing

if TYPE_CHECKING:
    from conftest import RawClient

StartEngine = Callable[..., Awaitable[FakeEngine]]
Connect = Callable[[FakeEngine], "Awaitable[RawClient]"]

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.PREFILL, Phase.DECODE])
async def test_leaving_aborts_the_request(
    start_engine: StartEngine, connect: Connect, chat_body: dict[str, Any], phase: Phase, streaming: bool
) -> None:
    prefill = 30.0 if phase is not Phase.DECODE else 0.0
    engine = await start_engine(timing=Timing(prefill_base_s=prefill, itl_base_s=30.0))
    if phase is Phase.QUEUED:
        (await connect(engine)).post(CHAT, chat_body)
        await engine.stats.until(lambda stats: stats.running == 1)
    raw = await connect(engine)
    raw.post(CHAT, chat_body | {"stream": streaming}, x_request_id="gone")
    await engine.stats.until(lambda stats: stats.inference_requests == 1 + (phase is Phase.QUEUED))
    job = (engine.waiting + engine.running)[0] if phase is Phase.QUEUED else engine.running[0]
    assert job.phase is phase
    await raw.close()
    await engine.stats.until(lambda stats: stats.aborted[phase] == 1)
    (abort,) = engine.stats.aborts
    assert (abort.x_request_id, abort.request_id, abort.phase) == ("gone", "chatcmpl-gone", phase)
    assert engine.stats.finished["abort"] == 1
    assert engine.stats.waiting == 0
    assert engine.stats.running == (phase is Phase.QUEUED)


async def test_a_half_closed_connection_counts_as_left(
    start_engine: StartEngine, connect: Connect, chat_body: dict[str, Any]
) -> None:
    engine = await start_engine(timing=Timing(itl_base_s=30.0))
    raw = await connect(engine)
    raw.post(CHAT, chat_body | {"stream": True})
    await raw.read_until(b"\n\n")
    raw.writer.write_eof()
    await engine.stats.until(lambda stats: stats.aborted[Phase.DECODE] == 1)


async def test_aborts_are_visible_over_http_without_polling(
    start_engine: StartEngine, connect: Connect, chat_body: dict[str, Any]
) -> None:
    engine = await start_engine(timing=Timing(itl_base_s=30.0))
    raw = await connect(engine)
    raw.post(CHAT, chat_body | {"stream": True}, x_request_id="gone")
    await raw.read_until(b"\n\n")
    async with httpx.AsyncClient(base_url=engine.url, verify=False) as client:
        now = (await client.get("/fake/stats")).json()
        assert now["in_flight"][0] | {"x_request_id": "gone", "phase": "decode"} == now["in_flight"][0]
        unmet = (await client.get("/fake/stats", params={"aborted": 1, "timeout": 0.01})).json()
        assert unmet["aborted_total"] == 0
        await raw.close()
        met = (await client.get("/fake/stats", params={"aborted": 1})).json()
        assert met["aborted"] == {"queued": 0, "prefill": 0, "decode": 1}
        assert met["aborts"][0]["x_request_id"] == "gone"
        assert met["in_flight"] == []
        metrics = (await client.get("/metrics")).text
    assert 'fake:aborted_total{phase="decode"} 1.0' in metrics
    assert 'vllm:request_success_total{engine="0",finished_reason="abort",model_name="fake"} 1.0' in metrics


async def test_waiting_for_what_never_comes_says_how_things_stand(engine: FakeEngine) -> None:
    with pytest.raises(TimeoutError, match="'aborted_total': 0"):
        await engine.stats.until(lambda stats: stats.aborted_total == 1, within=0.01)


async def test_a_reader_that_stalls_parks_its_stream(
    start_engine: StartEngine, connect: Connect, chat_body: dict[str, Any]
) -> None:
    # Fat events, so that they fill the sockets' buffers soon.
    fat = {"stream": True, "max_tokens": 4000, "ignore_eos": True, "logprobs": True, "top_logprobs": 20}
    engine = await start_engine()
    raw = await connect(engine)
    transport = raw.writer.transport
    transport.pause_reading()
    raw.post(CHAT, chat_body | fat)
    await engine.stats.until(lambda stats: stats.running == 1)
    async with asyncio.timeout(5):
        while not engine.running[0].parked:  # noqa: ASYNC110 (the engine announces no such thing)
            await asyncio.sleep(0)
    assert 0 < engine.running[0].emitted < 4000
    transport.resume_reading()
    received = bytearray()
    while not received.endswith(b"0\r\n\r\n"):
        received += await raw.reader.read(1 << 20)
    assert received.count(b'"content":"') == 4001
    await engine.stats.until(lambda stats: stats.running == 0)
