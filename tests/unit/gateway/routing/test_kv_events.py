"""The subscription over real ZMQ sockets, against the fake engine's publisher."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import time

import pytest

from engine_adapter.api import WorkerInfo
from engine_adapter.fake.config import KVEventsConfig
from engine_adapter.fake.kv_events import BlockStored, KVEventPublisher
from gateway.routing.fleet import Fleet
from gateway.routing.kv_events import KVEventFollower, KVEventSettings, reachable
from gateway.routing.kv_source import SourceReport
from gateway.routing.router import Router

FAST = KVEventSettings(audit_s=0.05, replay_timeout_s=0.5)


def block(number: int) -> BlockStored:
    parent = number - 1 if number else None
    return BlockStored([number], parent, [1] * 16, 16, None, "GPU", None)


@asynccontextmanager
async def publisher(**config: object) -> AsyncIterator[KVEventPublisher]:
    engine = KVEventPublisher(KVEventsConfig(**config))  # type: ignore[arg-type]
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


@asynccontextmanager
async def following(*infos: WorkerInfo) -> AsyncIterator[tuple[KVEventFollower, Fleet]]:
    fleet = Fleet()
    follower = KVEventFollower(fleet, Router(fleet), FAST)
    await follower.start()
    fleet.update(list(infos))
    try:
        yield follower, fleet
    finally:
        await follower.close()


def worker(engine: KVEventPublisher, replay: bool = True, generation: int = 0) -> WorkerInfo:
    return WorkerInfo(
        id="a",
        url="http://127.0.0.1:1",
        generation=generation,
        kv_events=engine.endpoint,
        kv_replay=engine.replay_endpoint if replay else None,
    )


async def until(follower: KVEventFollower, reached: Callable[[SourceReport], bool]) -> SourceReport:
    """The first report that satisfies `reached`; fails after 10 s with the latest."""
    for _ in range(1000):
        report = follower.reports()[0]
        if reached(report):
            return report
        await asyncio.sleep(0.01)
    pytest.fail(f"never reached: {report}")


async def test_batches_from_before_the_subscription_are_replayed() -> None:
    async with publisher() as engine:
        for number in range(5):
            engine.publish([block(number)], time())
        async with following(worker(engine)) as (follower, _):
            report = await until(follower, lambda r: r.blocks == 5)
            assert (report.status, report.lost_batches) == ("live", 0)
            engine.publish([block(5)], time())
            await until(follower, lambda r: r.blocks == 6)


async def test_lost_batches_are_found_and_replayed() -> None:
    """One in ten never arrives, the last one among them."""
    async with publisher(lose_every=10) as engine, following(worker(engine)) as (follower, _):
        await until(follower, lambda r: r.status == "live")
        for number in range(100):
            engine.publish([block(number)], time())
        report = await until(follower, lambda r: r.blocks == 100)
        assert engine.lost == 10
        assert (report.status, report.lost_batches) == ("live", 0)


async def test_without_a_replay_endpoint_a_gap_degrades_visibly() -> None:
    async with (
        publisher(lose_every=10) as engine,
        following(worker(engine, replay=False)) as (follower, _),
    ):
        await until(follower, lambda r: r.status == "live")
        number = 0
        while follower.reports()[0].status == "live":
            engine.publish([block(number)], time())
            number += 1
            await asyncio.sleep(0.001)
            assert number < 2000
        report = follower.reports()[0]
        assert report.status == "degraded"
        assert report.lost_batches > 0


async def test_a_history_longer_than_the_replay_buffer_is_followed_from_where_it_begins() -> None:
    async with publisher(buffer_steps=3) as engine:
        for number in range(10):
            engine.publish([block(number)], time())
        async with following(worker(engine)) as (follower, _):
            report = await until(follower, lambda r: r.blocks == 3)
            assert (report.status, report.lost_batches) == ("live", 7)


async def test_a_restarted_worker_is_followed_anew() -> None:
    async with publisher() as engine, following(worker(engine)) as (follower, fleet):
        engine.publish([block(0)], time())
        await until(follower, lambda r: r.blocks == 1)
        async with publisher() as successor:
            fleet.update([worker(successor, generation=1)])
            fleet.workers["a"].kv_events = successor.endpoint
            fleet.workers["a"].kv_replay = successor.replay_endpoint
            follower.follow(fleet.workers["a"])
            await until(follower, lambda r: r.status == "live" and r.blocks == 0)
            successor.publish([block(0), block(1)], time())
            await until(follower, lambda r: r.blocks == 2)


async def test_a_worker_that_leaves_is_no_longer_followed() -> None:
    async with publisher() as engine, following(worker(engine)) as (follower, fleet):
        await until(follower, lambda r: r.status == "live")
        fleet.update([])
        assert follower.reports() == []


@pytest.mark.parametrize("endpoint", ["127.0.0.1:5557", "tcp://127.0.0.1", "nonsense://x:1"])
async def test_an_endpoint_that_is_none_is_refused_in_words(endpoint: str) -> None:
    info = WorkerInfo(id="a", url="http://127.0.0.1:1", kv_events=endpoint)
    async with following(info) as (follower, _):
        report = await until(follower, lambda r: r.status == "refused")
        assert endpoint in report.message
        assert "tcp://host:5557" in report.message


async def test_an_endpoint_that_speaks_something_else_is_refused() -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.PUB) as other:
        port = other.bind_to_random_port("tcp://127.0.0.1")
        info = WorkerInfo(id="a", url="http://127.0.0.1:1", kv_events=f"tcp://127.0.0.1:{port}")
        async with following(info) as (follower, _):
            while follower.reports()[0].status != "refused":
                other.send_multipart([b"kv", (0).to_bytes(8, "big"), b"hello"])
                await asyncio.sleep(0.01)
            assert "not a KV event batch" in follower.reports()[0].message


async def test_a_silent_replay_endpoint_is_told_and_routing_goes_on() -> None:
    async with publisher() as engine:
        info = WorkerInfo(
            id="a", url="http://127.0.0.1:1", kv_events=engine.endpoint, kv_replay="tcp://127.0.0.1:9"
        )
        async with following(info) as (follower, _):
            report = await until(follower, lambda r: r.status == "live")
            assert "does not answer" in report.message


def test_wildcards_mean_the_workers_host() -> None:
    assert reachable("tcp://*:5557", "10.0.0.7") == "tcp://10.0.0.7:5557"
    assert reachable("tcp://0.0.0.0:5557", "fe80::1") == "tcp://[fe80::1]:5557"
    assert reachable("tcp://10.0.0.9:5557", "10.0.0.7") == "tcp://10.0.0.9:5557"


@pytest.mark.parametrize("field", ["audit_s", "replay_timeout_s", "max_blocks"])
def test_settings_are_checked(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        KVEventSettings(**{field: 0})  # type: ignore[arg-type]
