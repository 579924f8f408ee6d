"""Kept streams over HTTP: the same bytes from every number on, for their key alone, to a true end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest

from gateway.relay.settings import RelaySettings
from gateway.transport.settings import StreamSettings

from .conftest import CHAT, DETACHED, DONE, RESUMABLE, CrankedWorker, House, OpenHouse, token, until

WORDS = [token(word) for word in ("The ", "quick ", "brown ", "fox")]
ERROR = b'data: {"error":'
LARGE_EVENTS = 250
"""Of 60 kB: more than all buffers on the way hold."""
SMALL_BUFFER = (socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)


def split(body: bytes) -> list[bytes]:
    return [piece + b"\n\n" for piece in body.split(b"\n\n")[:-1]]


def numbered(body: bytes) -> list[tuple[int, bytes]]:
    """Events of a body in which each begins with its `id:` line."""
    found = []
    for event in split(body):
        id_line, _, rest = event.partition(b"\n")
        assert id_line.startswith(b"id: ")
        found.append((int(id_line[4:]), rest))
    return found


@contextlib.asynccontextmanager
async def asked(
    http: httpx.AsyncClient,
    worker: CrankedWorker,
    *said: bytes,
    body: dict[str, Any] = CHAT,
    headers: dict[str, str] | None = None,
) -> AsyncIterator[httpx.Response]:
    """The POST, answered by `said` so far; its connection is cut at the end of the block."""
    before = len(worker.answers)
    request = http.build_request("POST", "/v1/chat/completions", json=body, headers=headers)
    opening = asyncio.ensure_future(http.send(request, stream=True))
    await until(lambda: len(worker.answers) > before)
    if said:
        worker.say(*said)
    response = await opening
    try:
        assert response.status_code == 200
        yield response
    finally:
        await response.aclose()


async def slow_connection(house: House) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """One that takes little before it is read."""
    handle = socket.socket()
    handle.setblocking(False)
    handle.setsockopt(*SMALL_BUFFER)
    await asyncio.get_running_loop().sock_connect(handle, ("127.0.0.1", house.port))
    return await asyncio.open_connection(sock=handle, limit=1024)


async def complete(house: House, worker: CrankedWorker) -> tuple[str, bytes]:
    """Id and bytes of a stream that has ended."""
    async with house.http() as http, asked(http, worker, *WORDS, DONE, headers=RESUMABLE) as answer:
        return answer.headers["x-sluice-stream-id"], await answer.aread()


async def test_every_number_gives_the_rest_of_the_same_bytes(
    open_house: OpenHouse, worker: CrankedWorker
) -> None:
    house = await open_house(worker)
    stream_id, body = await complete(house, worker)
    assert body == b"".join((*WORDS, DONE))
    async with house.http() as http:
        for after in range(6):
            answer = await http.get(f"/v1/streams/{stream_id}", params={"starting_after": after})
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["x-accel-buffering"] == "no"
            events = numbered(answer.content)
            assert [number for number, _ in events] == list(range(after + 1, 6))
            assert b"".join(event for _, event in events) == b"".join((*WORDS, DONE)[after:])
        whole = await http.get(f"/v1/streams/{stream_id}")
        by_header = await http.get(f"/v1/streams/{stream_id}", headers={"last-event-id": "3"})
        nothing_left = await http.get(f"/v1/streams/{stream_id}", headers={"last-event-id": "5"})
    assert len(numbered(whole.content)) == 5
    assert [number for number, _ in numbered(by_header.content)] == [4, 5]
    assert nothing_left.status_code == 204  # an EventSource must not come again


async def test_what_was_asked_for_never_reaches_the_engine(
    open_house: OpenHouse, worker: CrankedWorker
) -> None:
    house = await open_house(worker)
    async with (
        house.http() as http,
        asked(http, worker, *WORDS, DONE, body=CHAT | {"sluice": {"stream": "detached", "ids": True}}) as a,
    ):
        assert [number for number, _ in numbered(await a.aread())] == [1, 2, 3, 4, 5]
    assert worker.bodies == [CHAT]


async def test_a_stock_client_sees_nothing_of_it(open_house: OpenHouse, worker: CrankedWorker) -> None:
    house = await open_house(worker)
    async with house.http() as http, asked(http, worker, *WORDS, DONE) as answer:
        assert await answer.aread() == b"".join((*WORDS, DONE))
        assert "x-sluice-stream-id" not in answer.headers
    assert house.streams.gauges()["kept"] == 0


@pytest.mark.parametrize("mode", ["resumable", "detached"])
async def test_a_reader_that_comes_back_in_mid_answer_misses_nothing(
    open_house: OpenHouse, worker: CrankedWorker, mode: str
) -> None:
    house = await open_house(worker)
    async with house.http() as http, house.http() as later:
        async with asked(http, worker, WORDS[0], headers={"x-sluice-stream": mode}) as answer:
            pieces = answer.aiter_raw()
            assert await anext(pieces) == WORDS[0]
            stream_id = answer.headers["x-sluice-stream-id"]
        worker.say(WORDS[1])  # while nobody reads
        stream = house.streams.find(stream_id, "")
        assert stream is not None
        await until(lambda: stream.readers == 0 and stream.log.last == 2)
        async with later.stream("GET", f"/v1/streams/{stream_id}?starting_after=1") as again:
            pieces = again.aiter_raw()
            assert await anext(pieces) == b"id: 2\n" + WORDS[1]
            assert stream.readers == 1
            worker.say(WORDS[2])
            assert await anext(pieces) == b"id: 3\n" + WORDS[2]
            worker.say(WORDS[3], DONE)
            rest = b"".join([piece async for piece in pieces])
            assert numbered(rest) == [(4, WORDS[3]), (5, DONE)]
    await house.quiet()
    assert house.records[0].end == "ok"
    assert not worker.lost


async def test_without_a_log_the_engine_stops_with_the_connection(
    open_house: OpenHouse, worker: CrankedWorker
) -> None:
    house = await open_house(worker)
    async with house.http() as http:
        async with asked(http, worker, WORDS[0]) as answer:
            await anext(answer.aiter_raw())
        await until(lambda: worker.lost)
    await house.quiet()
    assert house.records[0].end == "client_gone"


async def test_a_resumable_stream_that_nobody_comes_back_to_is_cancelled(
    open_house: OpenHouse, worker: CrankedWorker
) -> None:
    house = await open_house(worker)
    async with house.http() as http:
        async with asked(http, worker, WORDS[0], headers=RESUMABLE) as answer:
            await anext(answer.aiter_raw())
            stream_id = answer.headers["x-sluice-stream-id"]
        stream = house.streams.find(stream_id, "")
        assert stream is not None
        await until(lambda: stream.readers == 0)
        house.streams.sweep(stream.idle_since + 29.0)
        assert stream.status == "running"
        house.streams.sweep(stream.idle_since + 31.0)
        assert stream.status == "cancelled"
        await until(lambda: worker.lost)
        events = numbered((await http.get(f"/v1/streams/{stream_id}")).content)
    assert events[0] == (1, WORDS[0])
    assert orjson.loads(events[1][1][6:])["error"]["code"] == "stream_abandoned"
    assert house.records[0].end == "client_gone"


async def test_no_grace_means_at_once(open_house: OpenHouse, worker: CrankedWorker) -> None:
    house = await open_house(worker, streams=StreamSettings(grace_seconds=0.0))
    async with house.http() as http:
        async with asked(http, worker, WORDS[0], headers=RESUMABLE) as answer:
            await anext(answer.aiter_raw())
        await until(lambda: worker.lost)
    await house.quiet()
    assert house.streams.counts.ended == {"cancelled": 1}


async def test_a_detached_stream_may_not_run_for_ever(open_house: OpenHouse, worker: CrankedWorker) -> None:
    house = await open_house(worker)
    async with house.http() as http:
        async with asked(http, worker, WORDS[0], headers=DETACHED) as answer:
            await anext(answer.aiter_raw())
            stream_id = answer.headers["x-sluice-stream-id"]
        stream = house.streams.find(stream_id, "")
        assert stream is not None
        house.streams.sweep(stream.created + 1799.0)
        assert stream.status == "running"
        house.streams.sweep(stream.created + 1801.0)
        await until(lambda: worker.lost)
        events = numbered((await http.get(f"/v1/streams/{stream_id}")).content)
    assert orjson.loads(events[-1][1][6:])["error"]["code"] == "stream_too_long"


async def test_a_client_that_leaves_before_it_knows_the_id_cancels(
    open_house: OpenHouse, worker: CrankedWorker
) -> None:
    house = await open_house(worker)
    async with house.http() as http:
        request = asyncio.ensure_future(http.post("/v1/chat/completions", json=CHAT, headers=DETACHED))
        await until(lambda: worker.answers)
        request.cancel()
        await until(lambda: worker.lost)
    await house.quiet()
    assert house.records[0].end == "client_gone"
    assert house.streams.gauges() == {"running": 0, "kept": 0, "readers": 0, "log_bytes": 0}


async def test_the_head_comes_early(open_house: OpenHouse, worker: CrankedWorker) -> None:
    house = await open_house(worker, streams=StreamSettings(early_head_seconds=0.01))
    async with house.http() as http, asked(http, worker, headers=DETACHED) as answer:
        assert answer.headers["x-sluice-stream-id"]  # though the engine has said nothing
        worker.say(*WORDS, DONE)
        body = await answer.aread()
    assert body.removeprefix(b": ping\n") == b"".join((*WORDS, DONE))


async def test_cancel_is_told_to_everybody(open_house: OpenHouse, worker: CrankedWorker) -> None:
    house = await open_house(worker)
    async with house.http() as http, asked(http, worker, WORDS[0], headers=DETACHED) as answer:
        pieces = answer.aiter_raw()
        await anext(pieces)
        url = f"/v1/streams/{answer.headers['x-sluice-stream-id']}"
        async with http.stream("GET", url) as follower:
            followed = follower.aiter_raw()
            assert await anext(followed) == b"id: 1\n" + WORDS[0]
            ended = await http.delete(url)
            rest = b"".join([piece async for piece in pieces])
            rest_of_follower = b"".join([piece async for piece in followed])
        twice = await http.delete(url)
    assert ended.json() == {
        "id": url.rpartition("/")[2],
        "object": "stream",
        "status": "cancelled",
        "last": 2,
    }
    assert twice.json() == ended.json()
    assert rest.startswith(ERROR)
    assert b"stream_cancelled" in rest
    assert rest_of_follower == b"id: 2\n" + rest
    await until(lambda: worker.lost)
    assert house.records[0].end == "cancelled"


async def test_a_stream_belongs_to_its_key(open_house: OpenHouse, worker: CrankedWorker) -> None:
    house = await open_house(worker, keys=("mine", "theirs"))
    async with house.http("mine") as mine, house.http("theirs") as theirs, house.http() as nobody:
        async with asked(mine, worker, WORDS[0], headers=DETACHED) as answer:
            await anext(answer.aiter_raw())
            stream_id = answer.headers["x-sluice-stream-id"]
        unknown = stream_id[:-1] + ("A" if stream_id[-1] != "A" else "B")
        refusals = [
            await theirs.get(f"/v1/streams/{stream_id}"),
            await theirs.delete(f"/v1/streams/{stream_id}"),
            await theirs.get(f"/v1/streams/{unknown}"),
            await mine.get(f"/v1/streams/{unknown}"),
        ]
        bare = await nobody.get(f"/v1/streams/{stream_id}")
        worker.say(*WORDS[1:], DONE)
        own = await mine.get(f"/v1/streams/{stream_id}")
    assert [answer.status_code for answer in refusals] == [404] * 4
    bodies = [answer.text.replace(unknown, stream_id) for answer in refusals]
    assert len(set(bodies)) == 1, "an answer tells whether a stream of another key exists"
    assert refusals[0].json()["error"]["code"] == "stream_not_found"
    assert bare.status_code == 401
    assert len(numbered(own.content)) == 5


@pytest.mark.parametrize("number", ["-1", "x", "1.5", "9" * 30, "٣"])
async def test_numbers_that_are_none(open_house: OpenHouse, worker: CrankedWorker, number: str) -> None:
    house = await open_house(worker)
    stream_id, _ = await complete(house, worker)
    async with house.http() as http:
        answer = await http.get(f"/v1/streams/{stream_id}", params={"starting_after": number})
        ahead = await http.get(f"/v1/streams/{stream_id}", params={"starting_after": 6})
    for refused in (answer, ahead):
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "invalid_starting_after"


async def test_what_expires_is_gone(open_house: OpenHouse, worker: CrankedWorker) -> None:
    house = await open_house(worker)
    stream_id, _ = await complete(house, worker)
    stream = house.streams.find(stream_id, "")
    assert stream is not None
    house.streams.sweep(stream.ended_at + 299.0)
    async with house.http() as http:
        assert (await http.get(f"/v1/streams/{stream_id}")).status_code == 200
        house.streams.sweep(stream.ended_at + 301.0)
        assert (await http.get(f"/v1/streams/{stream_id}")).status_code == 404
    assert house.streams.bytes == 0


async def test_what_the_ring_has_dropped_is_said_clearly(
    open_house: OpenHouse, worker: CrankedWorker
) -> None:
    house = await open_house(worker, streams=StreamSettings(stream_bytes=1024))
    many = [token(f"word{number}") for number in range(40)]
    async with house.http() as http, asked(http, worker, *many, DONE, headers=RESUMABLE) as answer:
        body = await answer.aread()
        stream_id = answer.headers["x-sluice-stream-id"]
        stream = house.streams.find(stream_id, "")
        assert stream is not None
        gone = await http.get(f"/v1/streams/{stream_id}?starting_after=1")
        kept = await http.get(f"/v1/streams/{stream_id}?starting_after={stream.log.first - 1}")
    assert body == b"".join((*many, DONE)), "the connection that asked is not bounded by the ring"
    assert gone.status_code == 410
    assert gone.json()["error"]["code"] == "stream_truncated"
    assert str(stream.log.first) in gone.json()["error"]["message"]
    assert numbered(kept.content)[-1] == (41, DONE)
    assert stream.log.size <= 1024


async def test_a_slow_reader_of_a_detached_stream_does_not_slow_the_engine(
    open_house: OpenHouse, worker: CrankedWorker
) -> None:
    house = await open_house(worker, streams=StreamSettings(stream_bytes=64 * 1024))
    reader, writer = await slow_connection(house)
    body = orjson.dumps(CHAT)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"x-sluice-stream: detached\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )
    await until(lambda: worker.answers)
    worker.say(WORDS[0])
    head = await reader.readuntil(b"\r\n\r\n")
    stream_id = head.split(b"x-sluice-stream-id: ")[1].split(b"\r\n")[0].decode()
    stream = house.streams.find(stream_id, "")
    assert stream is not None
    large = token("x" * 60_000)
    for _ in range(LARGE_EVENTS):
        worker.say(large)
        await worker.answers[-1].drain()
    worker.say(DONE)
    await until(lambda: stream.ended)
    assert stream.status == "completed"
    rest = await asyncio.wait_for(reader.read(), 60)
    assert rest.endswith(b"0\r\n\r\n")
    assert b'"code":"stream_truncated"' in rest
    writer.close()


async def test_a_slow_reader_of_a_resumable_stream_slows_the_engine_and_gets_all(
    open_house: OpenHouse, worker: CrankedWorker
) -> None:
    house = await open_house(worker, streams=StreamSettings(stream_bytes=4096))
    large = token("x" * 60_000)
    slow = httpx.AsyncHTTPTransport(socket_options=[SMALL_BUFFER])
    async with house.http(transport=slow) as http, asked(http, worker, large, headers=RESUMABLE) as answer:

        async def speak() -> None:
            for _ in range(LARGE_EVENTS - 1):
                worker.say(large)
                await worker.answers[-1].drain()
            worker.say(DONE)

        speaking = asyncio.ensure_future(speak())
        await until(lambda: [e for e in house.relay.exchanges if e.stalled_since])
        body = await answer.aread()
        await speaking
    assert body == large * LARGE_EVENTS + DONE


async def test_who_takes_nothing_after_the_end_is_dropped(
    open_house: OpenHouse, worker: CrankedWorker
) -> None:
    house = await open_house(worker)
    reader, writer = await slow_connection(house)
    body = orjson.dumps(CHAT)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"x-sluice-stream: detached\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )
    await until(lambda: worker.answers)
    worker.say(WORDS[0])
    await reader.readuntil(b"\r\n\r\n")
    large = token("x" * 60_000)
    for _ in range(LARGE_EVENTS):
        worker.say(large)
        await worker.answers[-1].drain()
    worker.say(DONE)
    await house.quiet()
    (stream,) = house.streams._streams.values()
    assert stream.readers == 1
    house.streams.sweep(house.relay.now() + 61.0)
    assert stream.readers == 0
    assert stream.exchange is None
    with contextlib.suppress(ConnectionResetError):
        assert not (await asyncio.wait_for(reader.read(), 60)).endswith(b"0\r\n\r\n")
    writer.close()


async def test_bounds_of_a_key_forget_its_ended_streams_first(
    open_house: OpenHouse, worker: CrankedWorker
) -> None:
    house = await open_house(worker, streams=StreamSettings(key_bytes=2500))
    first, _ = await complete(house, worker)
    second, _ = await complete(house, worker)
    third, _ = await complete(house, worker)
    assert house.streams.find(first, "") is None
    assert house.streams.find(third, "") is not None
    assert house.streams.counts.evicted["key"] >= 1
    assert house.streams.bytes <= 2500
    assert second != third


async def test_running_streams_of_a_key_are_limited(open_house: OpenHouse, worker: CrankedWorker) -> None:
    house = await open_house(worker, streams=StreamSettings(running_per_key=1))
    async with house.http() as http, asked(http, worker, WORDS[0], headers=DETACHED) as running:
        refused = await http.post("/v1/chat/completions", json=CHAT, headers=DETACHED)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "too_many_streams"
        assert int(refused.headers["retry-after"]) > 0
        worker.say(DONE)
        await running.aread()
        again = asyncio.ensure_future(http.post("/v1/chat/completions", json=CHAT, headers=DETACHED))
        await until(lambda: len(worker.answers) == 2)
        worker.say(*WORDS, DONE)
        assert (await again).status_code == 200


@pytest.mark.parametrize(
    ("headers", "extra", "code"),
    [
        ({"x-sluice-stream": "for ever"}, {}, "invalid_header"),
        ({"x-sluice-stream": "resumable; id"}, {}, "invalid_header"),
        ({}, {"sluice": {"stream": "always"}}, "invalid_type"),
        ({}, {"sluice": {"strem": "detached"}}, "invalid_type"),
        ({}, {"sluice": "detached"}, "invalid_type"),
    ],
)
async def test_wishes_that_are_none(
    open_house: OpenHouse, worker: CrankedWorker, headers: dict[str, str], extra: dict[str, Any], code: str
) -> None:
    house = await open_house(worker)
    async with house.http() as http:
        answer = await http.post("/v1/chat/completions", json=CHAT | extra, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code
    assert not worker.bodies


async def test_errors_and_whole_answers_have_no_log(open_house: OpenHouse) -> None:
    house = await open_house()
    async with house.http() as http:
        answer = await http.post("/v1/chat/completions", json=CHAT, headers=DETACHED)
    assert answer.status_code == 404
    assert "x-sluice-stream-id" not in answer.headers
    assert house.streams.gauges()["running"] == 0


async def test_a_worker_that_dies_is_the_last_event(open_house: OpenHouse, worker: CrankedWorker) -> None:
    house = await open_house(worker)
    async with house.http() as http, asked(http, worker, WORDS[0], headers=RESUMABLE) as answer:
        pieces = answer.aiter_raw()
        await anext(pieces)
        worker.answers[0].transport.abort()
        rest = b"".join([piece async for piece in pieces])
        again = await http.get(f"/v1/streams/{answer.headers['x-sluice-stream-id']}?starting_after=1")
    assert rest.startswith(ERROR)
    assert again.content == b"id: 2\n" + rest
    assert house.streams.counts.ended == {"failed": 1}


async def test_pings_are_no_events(open_house: OpenHouse, worker: CrankedWorker) -> None:
    house = await open_house(worker, relay=RelaySettings(ping_seconds=0.3))
    async with (
        house.http() as http,
        asked(http, worker, WORDS[0], headers={"x-sluice-stream": "resumable; ids"}) as answer,
    ):
        pieces = answer.aiter_raw()
        assert (await anext(pieces)).startswith(b"id: 1\n" + WORDS[0])
        assert (await anext(pieces)).startswith(b": ping\n")
        async with http.stream(
            "GET", f"/v1/streams/{answer.headers['x-sluice-stream-id']}?starting_after=1"
        ) as follower:
            followed = follower.aiter_raw()
            assert (await anext(followed)).startswith(b": ping\n")
        worker.say(WORDS[1], DONE)
        rest = b"".join([piece async for piece in pieces]).replace(b": ping\n", b"")
    assert numbered(rest) == [(2, WORDS[1]), (3, DONE)]
