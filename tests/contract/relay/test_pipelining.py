"""Several requests on one connection, relayed or not, are answered in order, whatever is sent together."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.relay.settings import HttpLimits, RelaySettings

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

HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n"
ECHO = b"POST /echo?q HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
ECHO_CHUNKED = (
    b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
)
JSON = post_bytes(CHAT | {"max_tokens": 3})
STREAM = post_bytes(CHAT | {"max_tokens": 3, "stream": True})
BAD = post_bytes(b"{")
UNKNOWN = post_bytes(CHAT | {"model": "nobody"})

KINDS = {
    "health": (HEALTH, 200, rb'\{"status":"ok"\}'),
    "slow": (SLOW, 200, rb"0\n1\n2\n"),
    "echo": (ECHO, 200, rb'\{"length":5,"path":"/echo","query":"q"\}'),
    "echo chunked": (ECHO_CHUNKED, 200, rb'\{"length":7,"path":"/echo","query":""\}'),
    "document": (JSON, 200, rb'\{"id":.*"object":"chat.completion".*'),
    "stream": (STREAM, 200, rb"data: .*data: \[DONE\]\n\n"),
    "bad": (BAD, 400, rb".*invalid_json.*"),
    "unknown": (UNKNOWN, 404, rb".*model_not_found.*"),
}


async def check(gateway: Gateway, kinds: list[str], cuts: list[int]) -> None:
    client = await gateway.connect()
    data = b"".join(KINDS[kind][0] for kind in kinds)
    for a, b in itertools.pairwise([0, *cuts, len(data)]):
        client.send(data[a:b])
        await client.writer.drain()
        await until(lambda: True)
    for kind in kinds:
        answer = await client.answer()
        _, status, body = KINDS[kind]
        assert (kind, answer.status) == (kind, status)
        assert re.fullmatch(body, answer.body, re.DOTALL), (kind, answer.body)
    client.writer.close()


@pytest.mark.parametrize("pair", list(itertools.product(KINDS, KINDS)), ids="+".join)
async def test_any_two(start_gateway: StartGateway, start_engine: StartEngine, pair: tuple[str, str]) -> None:
    gateway = await start_gateway(await start_engine())
    await check(gateway, list(pair), [])


async def test_many_in_one_piece(start_gateway: StartGateway, start_engine: StartEngine) -> None:
    gateway = await start_gateway(await start_engine())
    await check(gateway, sorted(KINDS) * 12, [])


async def test_any_mixture_at_any_cut(start_gateway: StartGateway, start_engine: StartEngine) -> None:
    gateway = await start_gateway(await start_engine())
    run = gateway.relay.loop
    examples: list[tuple[list[str], list[int]]] = []

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=6), st.data())
    def collect(kinds: list[str], data: st.DataObject) -> None:
        size = sum(len(KINDS[kind][0]) for kind in kinds)
        examples.append((kinds, sorted(data.draw(st.lists(st.integers(0, size), max_size=5)))))

    collect()
    assert run.is_running()
    for kinds, cuts in examples:
        await check(gateway, kinds, cuts)


async def test_a_stream_is_not_disturbed_by_what_comes_behind(
    start_gateway: StartGateway, scripts: Scripts
) -> None:
    worker, url = await scripts.answering(
        SSE_HEAD, *[chunked(EVENT)] * 5, chunked(DONE) + LAST_CHUNK, pause=0.02
    )
    gateway = await start_gateway(url)
    client = await gateway.connect()
    client.send(STREAM + HEALTH[:20])
    await until(lambda: worker.requests)
    for n in range(20, len(HEALTH)):
        client.send(HEALTH[n : n + 1])
        await client.writer.drain()
    client.send(JSON)
    first, second = await client.answer(), await client.answer()
    assert first.raw_body == chunked(EVENT) * 5 + chunked(DONE) + LAST_CHUNK
    assert second.body == b'{"status":"ok"}'
    assert (await client.answer()).body == EVENT * 5 + DONE


async def test_garbage_behind_a_request_does_not_harm_its_answer(
    start_gateway: StartGateway, scripts: Scripts
) -> None:
    worker, url = await scripts.answering(JSON_OK, pause=0.05)
    gateway = await start_gateway(url)
    for garbage in (b"\x00\x01\x02\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", HEALTH + b"\xff\xff"):
        client = await gateway.connect()
        client.send(JSON + garbage)
        assert (await client.answer()).status == 200
        rest = await client.rest()
        assert rest == b"" or rest.startswith(b"HTTP/1.1 200 OK")
    assert len(worker.requests) == 3


async def test_nothing_after_the_last_request_is_served(
    start_gateway: StartGateway, start_engine: StartEngine
) -> None:
    gateway = await start_gateway(await start_engine())
    for last in (post_bytes(connection="close"), post_bytes(version="1.0")):
        client = await gateway.connect()
        client.send(last + HEALTH)
        assert (await client.answer()).status == 200
        assert await client.ended()


@pytest.mark.parametrize("first", [JSON, SLOW], ids=["relayed", "control plane"])
async def test_an_upgrade_behind_a_request_is_not_made(
    start_gateway: StartGateway, start_engine: StartEngine, first: bytes
) -> None:
    gateway = await start_gateway(await start_engine())
    client = await gateway.connect()
    websocket = (
        b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
    )
    client.send(first + websocket)
    assert (await client.answer()).status == 200
    assert (await client.answer()).status == 404, "nothing here speaks WebSocket"


async def test_a_broken_body_for_the_control_plane_does_not_hang(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    client = await gateway.connect()
    client.send(ECHO_CHUNKED[:-20])
    await until(lambda: gateway.server.server_state.tasks)
    client.send(b"\r\nxyz\r\n")
    assert (await client.answer()).status == 400
    assert await client.ended()


async def test_a_body_for_the_control_plane_behind_a_stream_is_bounded(
    start_gateway: StartGateway, scripts: Scripts
) -> None:
    _, url = await scripts.silent()
    limits = HttpLimits(body_bytes=100_000, stream_buffer_bytes=50_000)
    gateway = await start_gateway(url, settings=RelaySettings(limits=limits))
    client = await gateway.connect()
    client.send(
        JSON + b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n" + bytes(200_000)
    )
    await until(lambda: gateway.accounting.active == 1)
    (connection,) = gateway.server.server_state.connections
    await until(lambda: connection._deaf)  # type: ignore[union-attr]
    client.writer.close()
    await gateway.quiet()


async def test_reading_pauses_when_enough_is_pipelined(start_gateway: StartGateway, scripts: Scripts) -> None:
    worker, url = await scripts.answering(JSON_OK, pause=0.01)
    limits = HttpLimits(stream_buffer_bytes=20_000)
    gateway = await start_gateway(url, settings=RelaySettings(limits=limits))
    client = await gateway.connect()
    request = post_bytes(CHAT | {"user": "u" * 9000})
    client.send(request * 30)
    await until(lambda: worker.requests)
    (connection,) = gateway.server.server_state.connections
    answered = 0
    most = 0
    while answered < 30:
        most = max(most, connection._backlog_bytes)  # type: ignore[union-attr]
        assert (await client.answer()).status == 200
        answered += 1
    assert len(worker.requests) == 30
    assert most <= 20_000 + 300_000
