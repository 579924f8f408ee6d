"""KV events of an engine joined to the text of real requests: the fake engine, over HTTP and ZMQ."""

from __future__ import annotations

import asyncio
import json
from time import monotonic

import httpx
import pytest

from engine_adapter.api import WorkerInfo
from engine_adapter.fake.config import FakeEngineConfig, KVEventsConfig, PrefixCacheConfig
from engine_adapter.fake.engine import FakeEngine
from gateway.routing.assignment import RouteRequest
from gateway.routing.fingerprint import fingerprint
from gateway.routing.fleet import Fleet
from gateway.routing.kv_events import KVEventFollower, KVEventSettings
from gateway.routing.kv_source import SourceReport
from gateway.routing.router import Router

BLOCKS, BLOCK = 300, 16


async def chat(client: httpx.AsyncClient, router: Router, text: str) -> tuple[int, int]:
    """Route and send one prompt; returns bytes that the mirror and tokens that the engine found cached."""
    messages = [{"role": "user", "content": text}]
    body = json.dumps(messages, separators=(",", ":")).encode()
    routed = router.assign(RouteRequest("fake", b"", body), monotonic())
    predicted = int(routed.reason.split("hit=")[1].split("/")[0])
    reply = await client.post(
        f"{routed.worker.url}/v1/chat/completions",
        json={"model": "fake", "messages": messages, "max_tokens": 1},
    )
    usage = reply.json()["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    routed.first_byte(monotonic())
    routed.finish(monotonic(), "ok", usage["prompt_tokens"], cached, usage["completion_tokens"])
    return predicted, cached


async def settle(follower: KVEventFollower) -> None:
    """Until no event has come for a moment."""
    seen = -1
    for _ in range(200):
        before, seen = seen, follower.reports()[0].batches
        if seen == before:
            return
        await asyncio.sleep(0.05)


async def all_joined(follower: KVEventFollower, requests: int) -> SourceReport:
    """The report in which so many requests are joined to their blocks."""
    for _ in range(200):
        report = follower.reports()[0]
        if report.joined >= requests:
            return report
        await asyncio.sleep(0.05)
    pytest.fail(f"never joined: {report}")


async def test_the_mirror_follows_what_the_engine_evicts() -> None:
    """It believes the cache to be a hundred times as large as it is; only the events tell otherwise."""
    config = FakeEngineConfig(
        prefix_cache=PrefixCacheConfig(num_blocks=BLOCKS, block_size=BLOCK), kv_events=KVEventsConfig()
    )
    async with FakeEngine(config) as engine, httpx.AsyncClient() as client:
        fleet = Fleet()
        router = Router(fleet)
        follower = KVEventFollower(fleet, router, KVEventSettings(audit_s=0.05))
        await follower.start()
        fleet.update(
            [
                WorkerInfo(
                    id="a", url=engine.url, kv_events=engine.kv_endpoint, kv_replay=engine.kv_replay_endpoint
                )
            ]
        )
        fleet.workers["a"].models, fleet.workers["a"].health = ("fake",), "ready"
        try:
            users = [f"user {n}: " + f"{n:03d} says this and that. " * (190 + 3 * n) for n in range(12)]
            for text in users:
                await chat(client, router, text)
            report = await all_joined(follower, 12)
            assert report.block_size == BLOCK
            state = router.states()[0]
            for text in users:
                body = json.dumps([{"role": "user", "content": text}], separators=(",", ":")).encode()
                prompt = fingerprint("fake", b"", body)
                mirrored = prompt.covered(state.cache.depth(prompt))
                predicted, cached = await chat(client, router, text)
                await settle(follower)
                assert predicted == mirrored
                assert abs(predicted / len(body) - cached * 4 / len(body)) < 0.15
            await client.post(f"{engine.url}/reset_prefix_cache")
            await settle(follower)
            assert (await chat(client, router, users[-1]))[0] == 0
        finally:
            await follower.close()
