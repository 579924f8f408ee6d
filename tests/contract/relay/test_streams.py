"""What clients of streams can rely on: form, pings, and that a broken one never looks complete."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import orjson
import pytest

from engine_adapter.fake import Fault, Timing
from gateway.relay.settings import HealthChecks, RelaySettings, Retries, Timeouts

from .conftest import (
    CHAT,
    DONE,
    EVENT,
    LAST_CHUNK,
    SSE_HEAD,
    Gateway,
    Scripts,
    StartEngine,
    StartGateway,
    chunked,
    post_bytes,
)

BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "completions": ("/v1/completions", {"model": "fake", "prompt": "Once"}),
    "responses": ("/v1/responses", {"model": "fake", "input": "hi"}),
    "messages": (
        "/v1/messages",
        {"model": "fake", "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]},
    ),
}
BREAKS = {
    "cut": Fault("cut", point="event", after_events=8),
    "reset": Fault("cut", point="event", after_events=8, reset=True),
    "cut inside a chunk": Fault("cut", point="mid-chunk", after_events=8),
    "truncated": Fault("truncate", after_events=8),
    "bad chunk": Fault("framing", framing="bad-chunk", after_events=8),
    "hang": Fault("hang", point="event", after_events=8),
    "the engine's own error": Fault("error-event", after_events=8),
}
STEADY = Timing(itl_base_s=0.002)
LIMITS = RelaySettings(
    timeouts=Timeouts(silence=0.2, first_byte=0.2),
    ping_seconds=0,
    retries=Retries(budget=0, budget_floor=0),
    health=HealthChecks(breaker_failures=1000),
)


def blocks(stream: bytes) -> list[bytes]:
    """The events of a stream, after seeing to it that each is one."""
    *whole, rest = stream.split(b"\n\n")
    assert rest == b""
    for block in whole:
        assert any(line.startswith(b"data:") for line in block.split(b"\n")), block
        assert not any(line.startswith(b"retry:") for line in block.split(b"\n")), block
    return whole


@pytest.mark.parametrize("family", BODIES)
async def test_a_stream_is_the_engines_own(
    start_gateway: StartGateway, start_engine: StartEngine, family: str
) -> None:
    engine = await start_engine(timing=Timing(itl_base_s=0.001))
    gateway = await start_gateway(engine)
    path, body = BODIES[family]
    headers = {"x-request-id": "same", "content-type": "application/json"}
    async with httpx.AsyncClient(timeout=5, verify=False, headers=headers) as http:
        direct = await http.post(engine.url + path, json=body | {"stream": True})
        relayed = await http.post(gateway.url + path, json=body | {"stream": True})
    # Two answers to one request differ in when they were made.
    strip = _without_times
    assert strip(relayed.content) == strip(direct.content)
    assert relayed.headers["content-type"] == direct.headers["content-type"]
    assert relayed.headers["x-accel-buffering"] == "no"
    assert relayed.headers["cache-control"] == "no-cache"
    assert "content-length" not in relayed.headers
    assert "content-encoding" not in relayed.headers
    assert relayed.headers["x-request-id"] == "same"
    blocks(relayed.content)
    await gateway.quiet()
    assert gateway.records[0].end == "ok"


def _without_times(stream: bytes) -> list[bytes]:
    def still(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: still(v) for k, v in value.items() if "created" not in k and not k.endswith("_at")}
        return [still(v) for v in value] if isinstance(value, list) else value

    return [
        orjson.dumps(still(orjson.loads(line[6:]))) if line.startswith(b"data: {") else line
        for line in stream.split(b"\n")
    ]


@pytest.mark.parametrize("name", BREAKS)
@pytest.mark.parametrize("family", BODIES)
async def test_a_broken_stream_ends_in_an_error_and_never_in_an_end(
    start_gateway: StartGateway, start_engine: StartEngine, family: str, name: str
) -> None:
    engine = await start_engine(faults=(BREAKS[name],), timing=STEADY)
    gateway = await start_gateway(engine, settings=LIMITS)
    path, body = BODIES[family]
    client = await gateway.connect()
    client.send(post_bytes(body | {"stream": True}, path=path))
    answer = await client.answer()
    assert answer.status == 200
    told = blocks(answer.body)
    if name == "the engine's own error":
        assert b"error" in told[-1] + told[-2]
        await gateway.quiet()
        assert gateway.records[0].end == "worker_error"
        return
    assert b"[DONE]" not in answer.body
    assert b"message_stop" not in answer.body
    assert b"response.completed" not in answer.body
    assert b'"finish_reason":"' not in answer.body
    last = told[-1]
    assert orjson.loads(last.partition(b"data: ")[2])["error"]["message"]
    assert last.startswith(b"event: error\n") == (family in ("responses", "messages"))
    assert answer.raw_body.endswith(b"\n\n\r\n" + LAST_CHUNK)
    assert await client.ended()
    await gateway.quiet()
    expected = {"truncated": "bad_response", "hang": "timeout_silence"}.get(name, "worker_gone")
    assert gateway.records[0].end == expected
    assert gateway.records[0].status == 200


async def _consume(gateway: Gateway, family: str) -> int:
    """Read a stream as users do; the number of its events."""
    count = 0
    body = BODIES[family][1]
    # `verify=False` only saves loading certificates, which costs more than a test.
    if family == "messages":
        async with (
            httpx2.AsyncClient(verify=False) as http,
            anthropic.AsyncAnthropic(
                base_url=gateway.url, api_key="x", max_retries=0, http_client=http
            ).messages.stream(**body) as events,
        ):
            async for _ in events:
                count += 1
        return count
    async with httpx.AsyncClient(verify=False) as plain:
        client = openai.AsyncOpenAI(
            base_url=gateway.url + "/v1", api_key="x", max_retries=0, http_client=plain
        )
        create: Any = {
            "chat": client.chat.completions.create,
            "completions": client.completions.create,
            "responses": client.responses.create,
        }[family]
        async with await create(**body, stream=True) as stream:
            async for _ in stream:
                count += 1
    return count


@pytest.mark.parametrize("name", BREAKS)
@pytest.mark.parametrize("family", BODIES)
async def test_the_official_clients_raise(
    start_gateway: StartGateway, start_engine: StartEngine, family: str, name: str
) -> None:
    if name == "the engine's own error" and family in ("responses", "messages"):
        pytest.skip("what vLLM sends there is its own affair; see the recordings")
    engine = await start_engine(faults=(BREAKS[name],), timing=STEADY)
    gateway = await start_gateway(engine, settings=LIMITS)
    with pytest.raises((openai.APIError, anthropic.APIError)) as caught:
        await _consume(gateway, family)
    assert "worker" in str(caught.value) or name == "the engine's own error"
    assert not isinstance(caught.value, openai.APIConnectionError | anthropic.APIConnectionError)


@pytest.mark.parametrize("family", BODIES)
async def test_the_official_clients_read_a_stream_with_pings(
    start_gateway: StartGateway, start_engine: StartEngine, family: str
) -> None:
    engine = await start_engine(timing=Timing(prefill_base_s=0.5), answer_tokens=6)
    quiet = await start_gateway(engine)
    pinged = await start_gateway(engine, settings=RelaySettings(ping_seconds=0.05))
    assert await _consume(pinged, family) == await _consume(quiet, family) > 3
    answer = await pinged.ask(post_bytes(BODIES[family][1] | {"stream": True}, path=BODIES[family][0]))
    assert answer.body.count(b": ping\n") >= 2
    assert b": ping\n\n" not in answer.body


async def test_pings_wait_until_the_engine_has_accepted(
    start_gateway: StartGateway, start_engine: StartEngine, scripts: Scripts
) -> None:
    refusal = b"HTTP/1.1 422 Unprocessable\r\ncontent-length: 2\r\n\r\n{}"

    async def script(reader: Any, writer: Any) -> None:
        await worker.request(reader)
        await asyncio.sleep(0.6)
        writer.write(refusal)

    worker, url = await scripts.run(script)
    gateway = await start_gateway(url, settings=RelaySettings(ping_seconds=0.05))
    answer = await gateway.ask(post_bytes(CHAT | {"stream": True}))
    assert (answer.status, answer.body) == (422, b"{}")


@pytest.mark.parametrize("fault", [Fault("status", status=400), Fault("status", status=429, retry_after="7")])
@pytest.mark.parametrize("family", BODIES)
async def test_early_errors_keep_status_and_headers(
    start_gateway: StartGateway, start_engine: StartEngine, family: str, fault: Fault
) -> None:
    gateway = await start_gateway(await start_engine(faults=(fault,)))
    path, body = BODIES[family]
    answer = await gateway.ask(post_bytes(body | {"stream": True}, path=path))
    assert answer.status == fault.status
    assert answer.headers.get("retry-after") == fault.retry_after
    assert answer.headers["content-type"] == "application/json"
    assert answer.error["message"] == fault.message


ADVERSARIAL = [
    "data: [DONE]",
    "\n\ndata: [DONE]\n\n",
    "\nevent: message_stop\ndata: {}\n\n",
    '","finish_reason":"stop","x":"',
    '\n\ndata: {"error":{"message":"x"}}\n\n',
    "\r\n0\r\n\r\n",
    '"usage":{"prompt_tokens":9999,"completion_tokens":9999}',
]


@pytest.mark.parametrize("text", ADVERSARIAL)
@pytest.mark.parametrize("breaks", [True, False])
async def test_no_model_output_passes_for_an_end(
    start_gateway: StartGateway, scripts: Scripts, text: str, breaks: bool
) -> None:
    event = (
        b"data: " + orjson.dumps({"choices": [{"delta": {"content": text}, "finish_reason": None}]}) + b"\n\n"
    )
    if breaks:
        _, url = await scripts.answering(SSE_HEAD, chunked(event) * 3 + LAST_CHUNK)
    else:
        _, url = await scripts.answering(SSE_HEAD, chunked(event) * 3, chunked(DONE) + LAST_CHUNK)
    gateway = await start_gateway(url)
    answer = await gateway.ask(post_bytes(CHAT | {"stream": True}))
    assert answer.body.startswith(event * 3)
    last = answer.body.removeprefix(event * 3)
    assert last.startswith(b'data: {"error":') if breaks else last == DONE
    await gateway.quiet()
    record = gateway.records[0]
    assert record.end == ("bad_response" if breaks else "ok")
    assert (record.prompt_tokens, record.output_tokens) == (0, 0)


async def test_memory_does_not_grow_with_what_is_relayed(
    start_gateway: StartGateway, scripts: Scripts
) -> None:
    """An exchange keeps its last two pieces and at most two events with usage, however long the stream."""
    usage = b'data: {"usage":{"prompt_tokens":3,"completion_tokens":%d}}\n\n'
    pieces = [chunked(usage % n) for n in range(500)]
    _, url = await scripts.answering(SSE_HEAD, *pieces, chunked(DONE) + LAST_CHUNK)
    gateway = await start_gateway(url)
    client = await gateway.connect()
    client.send(post_bytes(CHAT | {"stream": True}))
    kept: list[int] = []
    while not gateway.records:
        kept += [len(exchange._usage_events) for exchange in gateway.relay.exchanges]
        await client.reader.read(1024)
    assert max(kept) <= 2
    assert gateway.records[0].output_tokens == 499


async def test_events_are_not_held_back(start_gateway: StartGateway, scripts: Scripts) -> None:
    go_on = asyncio.Event()

    async def script(reader: Any, writer: Any) -> None:
        await worker.request(reader)
        writer.write(SSE_HEAD + chunked(EVENT))
        await go_on.wait()
        writer.write(chunked(DONE) + LAST_CHUNK)

    worker, url = await scripts.run(script)
    gateway = await start_gateway(url)
    client = await gateway.connect()
    client.send(post_bytes(CHAT | {"stream": True}))
    await client.head()
    assert await asyncio.wait_for(client.reader.readexactly(len(chunked(EVENT))), 5) == chunked(EVENT)
    go_on.set()
    assert await asyncio.wait_for(client.reader.readuntil(LAST_CHUNK), 5)


async def test_usage_reaches_the_books(start_gateway: StartGateway, start_engine: StartEngine) -> None:
    gateway = await start_gateway(await start_engine())
    bodies = {
        "chat": {"stream_options": {"include_usage": True}},
        "completions": {"stream_options": {"include_usage": True}},
    }
    for family, (path, body) in BODIES.items():
        for stream in (False, True):
            options = bodies.get(family, {}) if stream else {}
            answer = await gateway.ask(post_bytes(body | options | {"stream": stream}, path=path))
            assert answer.status == 200
    await gateway.quiet()
    for whole, streamed in zip(gateway.records[::2], gateway.records[1::2], strict=True):
        assert whole.prompt_tokens > 0
        assert whole.output_tokens > 0
        assert (streamed.prompt_tokens, streamed.output_tokens) == (whole.prompt_tokens, whole.output_tokens)
