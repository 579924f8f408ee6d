"""Two gateways that share a store: what one of them runs, the other can read, follow and cancel."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

pytest.importorskip("valkey")
from gateway.chat.http import Answer, ask
from gateway.transport.settings import StreamSettings
from gateway.transport.valkey_store import ValkeyStore

from .conftest import CHAT, DONE, CrankedWorker, House, OpenHouse, token, until

SERVER = shutil.which("valkey-server") or shutil.which("redis-server")
pytestmark = pytest.mark.skipif(SERVER is None, reason="neither valkey-server nor redis-server is installed")

WORDS = [token(word) for word in ("The ", "quick ", "brown ", "fox")]


@pytest.fixture(scope="module")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own, on a Unix socket."""
    path = tmp_path_factory.mktemp("v") / "s"
    assert SERVER is not None
    arguments = ("--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no")
    with subprocess.Popen([SERVER, *arguments], stdout=subprocess.PIPE, cwd=path.parent) as server:
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if b"ready to accept connections" in line.lower():
                    break
            yield f"unix://{path}"
        finally:
            server.kill()


@contextlib.asynccontextmanager
async def store_of(url: str) -> AsyncIterator[ValkeyStore]:
    store = ValkeyStore(StreamSettings(valkey_url=url))
    running = asyncio.ensure_future(store.run())
    try:
        yield store
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def two(
    open_house: OpenHouse, worker: CrankedWorker, valkey_url: str
) -> AsyncIterator[tuple[House, House]]:
    """Two gateways with the same keys before the same worker."""
    async with store_of(valkey_url) as one, store_of(valkey_url) as other:
        first = await open_house(worker, keys=("mine", "theirs"), store=one)
        yield first, await open_house(worker, keyring=first, store=other)


async def begun(house: House, worker: CrankedWorker, http: Any, *said: bytes) -> Answer:
    before = len(worker.answers)
    asking = asyncio.ensure_future(ask(http, CHAT, keep=True))
    await until(lambda: len(worker.answers) > before)
    worker.say(*said)
    return await asking


async def test_the_other_gateway_replays_and_follows(two: tuple[House, House], worker: CrankedWorker) -> None:
    first, second = two
    async with first.http("mine") as here, second.http("mine") as there:
        answer = await begun(first, worker, here, *WORDS[:2])
        async with there.stream("GET", f"/v1/streams/{answer.stream_id}?starting_after=1") as follower:
            assert follower.status_code == 200
            pieces = follower.aiter_raw()
            assert await anext(pieces) == b"id: 2\n" + WORDS[1]
            worker.say(*WORDS[2:], DONE)
            rest = b"".join([piece async for piece in pieces])
        assert rest == b"id: 3\n" + WORDS[2] + b"id: 4\n" + WORDS[3] + b"id: 5\n" + DONE
        await answer.close()
        await first.quiet()
        for after in range(6):
            mine = await here.get(f"/v1/streams/{answer.stream_id}?starting_after={after}")
            theirs = await there.get(f"/v1/streams/{answer.stream_id}?starting_after={after}")
            assert mine.content == theirs.content
    assert second.streams.counts.resumed["get"] == 6


async def test_the_key_counts_there_too(two: tuple[House, House], worker: CrankedWorker) -> None:
    first, second = two
    async with first.http("mine") as here, second.http("theirs") as others:
        answer = await begun(first, worker, here, *WORDS, DONE)
        assert (await others.get(f"/v1/streams/{answer.stream_id}")).status_code == 404
        assert (await others.delete(f"/v1/streams/{answer.stream_id}")).status_code == 404
        await answer.close()


async def test_cancel_from_elsewhere(two: tuple[House, House], worker: CrankedWorker) -> None:
    first, second = two
    async with first.http("mine") as here, second.http("mine") as there:
        answer = await begun(first, worker, here, WORDS[0])
        ended = await there.delete(f"/v1/streams/{answer.stream_id}")
        assert ended.json()["status"] == "cancelled"
        events = [data async for _, data in answer.events()]
        assert orjson.loads(events[-1])["error"]["code"] == "stream_cancelled"
        await until(lambda: worker.lost)
        kept = await there.get(f"/v1/streams/{answer.stream_id}?starting_after=1")
        assert b"stream_cancelled" in kept.content
        await answer.close()


async def test_a_reader_elsewhere_counts_as_one(two: tuple[House, House], worker: CrankedWorker) -> None:
    first, second = two
    async with first.http("mine") as here, second.http("mine") as there:
        answer = await begun(first, worker, here, WORDS[0])
        stream = first.streams.find(
            answer.stream_id,
            first.context.keyring.check(  # type: ignore[union-attr]
                b"Bearer " + first.secrets["mine"].encode()
            ).id,
        )
        assert stream is not None
        await answer.close()
        await until(lambda: stream.readers == 0)
        left = stream.idle_since
        async with there.stream("GET", f"/v1/streams/{answer.stream_id}") as follower:
            await anext(follower.aiter_raw())
            await until(lambda: stream.idle_since > left)
        worker.say(*WORDS[1:], DONE)
    await first.quiet()


async def test_a_gateway_that_died(
    open_house: OpenHouse,
    worker: CrankedWorker,
    valkey_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.transport.valkey_store._BLOCK_MS", 20)
    async with store_of(valkey_url) as other:
        async with store_of(valkey_url) as one:
            first = await open_house(worker, store=one)
            async with first.http() as http:
                answer = await begun(first, worker, http, *WORDS)
                await answer.close()
        # Its store writes no more and hears nothing; its key would expire by itself.
        await other._client.delete(f"sluice:alive:{one._instance}")
        second = await open_house(worker, store=other)
        async with second.http() as http:
            kept = await http.get(f"/v1/streams/{answer.stream_id}")
    events = [block for block in kept.content.split(b"\n\n") if block]
    assert len(events) == 5
    assert b"".join(event.partition(b"\n")[2] + b"\n\n" for event in events[:4]) == b"".join(WORDS)
    assert b'"code":"stream_lost"' in events[4]


async def test_without_the_server_answers_go_on(
    open_house: OpenHouse, worker: CrankedWorker, tmp_path: Path
) -> None:
    async with store_of(f"unix://{tmp_path}/nobody") as store:
        house = await open_house(worker, store=store)
        async with house.http() as http:
            answer = await begun(house, worker, http, *WORDS, DONE)
            assert len([data async for _, data in answer.events()]) == 5
            kept = await http.get(f"/v1/streams/{answer.stream_id}")
            unknown = answer.stream_id[:-2] + "AA"
            refused = await http.get(f"/v1/streams/{unknown}")
            await answer.close()
        assert kept.content.endswith(DONE)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "store_unavailable"
