"""KV events on the wire: format, order, loss, replay, restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import msgspec
import pytest
import zmq
from zmq.asyncio import Context, Socket

from engine_adapter.fake import FakeEngine, KVEventsConfig, PrefixCacheConfig, ServedModel
from engine_adapter.fake.block_hash import BlockHasher
from engine_adapter.fake.kv_events import END_OF_REPLAY
from engine_adapter.fake.tokens import Prompt

StartEngine = Callable[..., Awaitable[FakeEngine]]
Message = tuple[bytes, int, Any]

PROMPT = "the fox ran out of the den and over the hill " * 4
"""45 tokens: two blocks of 16 and a rest."""


class Ear:
    """A subscriber and a replay client."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.sub: Socket | None = None

    async def listen(self, engine: FakeEngine) -> None:
        """Subscribe, and wait until the subscription is in force."""
        self.sub = self.context.socket(zmq.SUB)
        self.sub.linger = 0
        self.sub.subscribe(b"")
        monitor = self.sub.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self.sub.connect(engine.kv_endpoint)
        async with asyncio.timeout(5):
            await monitor.recv_multipart()
        monitor.close()
        self.sub.disable_monitor()
        # The publisher learns of the subscription one message after the handshake.
        await asyncio.sleep(0.05)

    async def hear(self, count: int) -> list[Message]:
        """The next `count` batches."""
        assert self.sub is not None
        batches = []
        async with asyncio.timeout(5):
            for _ in range(count):
                topic, number, payload = await self.sub.recv_multipart()
                batches.append((topic, int.from_bytes(number, "big"), msgspec.msgpack.decode(payload)))
        return batches

    async def replay(self, engine: FakeEngine, start: int) -> list[Message]:
        """What the engine replays from batch `start` on."""
        dealer = self.context.socket(zmq.DEALER)
        dealer.linger = 0
        dealer.connect(engine.kv_replay_endpoint)
        batches = []
        async with asyncio.timeout(5):
            await dealer.send_multipart([b"", start.to_bytes(8, "big")])
            while True:
                _, topic, number, payload = await dealer.recv_multipart()
                if number == END_OF_REPLAY:
                    break
                batches.append((topic, int.from_bytes(number, "big"), msgspec.msgpack.decode(payload)))
        dealer.close()
        return batches


@pytest.fixture
async def ear() -> AsyncIterator[Ear]:
    ear = Ear(Context())
    yield ear
    ear.context.destroy(linger=0)


@pytest.fixture
async def speak(
    start_engine: StartEngine,
) -> AsyncIterator[Callable[..., Awaitable[tuple[FakeEngine, httpx.AsyncClient]]]]:
    """Start an engine that publishes, with blocks of 16 tokens."""
    async with AsyncExitStack() as stack:

        async def start(blocks: int = 64, **events: Any) -> tuple[FakeEngine, httpx.AsyncClient]:
            engine = await start_engine(
                prefix_cache=PrefixCacheConfig(num_blocks=blocks, block_size=16),
                kv_events=KVEventsConfig(**events),
                models=(ServedModel("base"), ServedModel("ad", "/lora", "base")),
            )
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=engine.url, verify=False))
            return engine, client

        yield start


async def complete(client: httpx.AsyncClient, prompt: str, **extra: Any) -> Any:
    answer = await client.post("/v1/completions", json={"prompt": prompt, "max_tokens": 1} | extra)
    assert answer.status_code == 200, answer.text
    return answer.json()


def hashes_of(text: str) -> list[int]:
    digests: list[bytes] = []
    BlockHasher(16, "vllm-none-hash").extend(digests, Prompt.from_text(text), (), ())
    return [int.from_bytes(digest, "big") & (2**64 - 1) for digest in digests]


async def test_a_stored_prompt_is_told_in_vllms_form(speak: Any, ear: Ear) -> None:
    engine, client = await speak()
    await ear.listen(engine)
    await complete(client, PROMPT)
    ((topic, number, batch),) = await ear.hear(1)
    assert (topic, number) == (b"kv", 0)
    timestamp, events, rank = batch
    assert timestamp > 1e9
    assert rank == 0
    assert events == [
        {
            "type": "BlockStored",
            "block_hashes": hashes_of(PROMPT),
            "parent_block_hash": None,
            "token_ids": list(Prompt.from_text(PROMPT).ids()[:32]),
            "block_size": 16,
            "lora_id": None,
            "medium": "GPU",
            "lora_name": None,
            "extra_keys": [None, None],
            "group_idx": 0,
            "kv_cache_spec_kind": "full_attention",
        }
    ]
    assert list(events[0])[0] == "type"


async def test_a_longer_prompt_tells_only_what_is_new(speak: Any, ear: Ear) -> None:
    engine, client = await speak()
    await ear.listen(engine)
    await complete(client, PROMPT)
    await complete(client, PROMPT + "and into the wood where it slept " * 4)
    first, second = await ear.hear(2)
    (event,) = second[2][1]
    assert event["parent_block_hash"] == first[2][1][0]["block_hashes"][-1]
    assert event["block_hashes"] == hashes_of(PROMPT + "and into the wood where it slept " * 4)[2:]


async def test_eviction_and_reset_are_told(speak: Any, ear: Ear) -> None:
    engine, client = await speak(blocks=4)
    await ear.listen(engine)
    await complete(client, PROMPT)
    await complete(client, "a different tale of a cow by the sea " * 5)
    assert (await client.post("/reset_prefix_cache")).json() == {"success": True}
    stored, replaced, cleared = [batch for _, _, batch in await ear.hear(3)]
    removed = [event for event in replaced[1] if event["type"] == "BlockRemoved"]
    assert (
        removed
        == [
            {"type": "BlockRemoved", "block_hashes": [digest], "medium": "GPU", "group_idx": 0}
            for digest in reversed(stored[1][0]["block_hashes"])
        ][: len(removed)]
    )
    assert removed
    assert cleared[1] == [{"type": "AllBlocksCleared"}]


async def test_a_lazy_clear_rides_on_the_next_batch(speak: Any, ear: Ear) -> None:
    engine, client = await speak(lazy_clear=True)
    await ear.listen(engine)
    await client.post("/reset_prefix_cache")
    await complete(client, PROMPT)
    ((_, number, batch),) = await ear.hear(1)
    assert number == 0
    assert [event["type"] for event in batch[1]] == ["AllBlocksCleared", "BlockStored"]


async def test_salt_and_adapter_are_in_the_extra_keys(speak: Any, ear: Ear) -> None:
    engine, client = await speak()
    await ear.listen(engine)
    await complete(client, PROMPT, cache_salt="tenant")
    await complete(client, PROMPT, model="ad")
    salted, adapted = [batch[1][0] for _, _, batch in await ear.hear(2)]
    assert salted["extra_keys"] == [["tenant"], None]
    assert adapted["extra_keys"] == [["ad"], ["ad"]]
    assert (adapted["lora_id"], adapted["lora_name"]) == (1, "ad")
    assert salted["block_hashes"] != adapted["block_hashes"]


async def test_whole_hashes_can_be_published(speak: Any, ear: Ear) -> None:
    engine, client = await speak(int_hashes=False)
    await ear.listen(engine)
    await complete(client, PROMPT)
    ((_, _, batch),) = await ear.hear(1)
    digests = batch[1][0]["block_hashes"]
    assert [len(digest) for digest in digests] == [32, 32]
    assert [int.from_bytes(digest[-8:], "big") for digest in digests] == hashes_of(PROMPT)


async def test_the_answers_blocks_are_told_as_they_fill(speak: Any, ear: Ear) -> None:
    engine, client = await speak()
    await ear.listen(engine)
    await client.post("/v1/completions", json={"prompt": PROMPT, "max_tokens": 30, "stream": True})
    batches = await ear.hear(3)
    counts = [len(event["block_hashes"]) for _, _, batch in batches for event in batch[1]]
    assert counts == [2, 1, 1]


async def test_lost_batches_leave_a_gap_that_replay_fills(speak: Any, ear: Ear) -> None:
    engine, client = await speak(lose_every=3)
    await ear.listen(engine)
    for number in range(7):
        await complete(client, f"{number:03d} " * 20)
    assert [number for _, number, _ in await ear.hear(5)] == [0, 1, 3, 4, 6]
    replayed = await ear.replay(engine, 1)
    assert [number for _, number, _ in replayed] == [1, 2, 3, 4, 5, 6]
    assert replayed[1][0] == b"kv"
    assert replayed[1][2][1][0]["block_hashes"] == hashes_of("002 " * 20)
    stats = (await client.get("/fake/stats")).json()
    assert (stats["kv_batches"], stats["kv_batches_lost"]) == (7, 2)


async def test_the_replay_buffer_is_bounded(speak: Any, ear: Ear) -> None:
    engine, client = await speak(buffer_steps=2)
    for number in range(4):
        await complete(client, f"{number:03d} " * 20)
    assert [number for _, number, _ in await ear.replay(engine, 0)] == [2, 3]
    assert await ear.replay(engine, 99) == []


async def test_sources_tell_where_to_listen(speak: Any) -> None:
    engine, client = await speak(topic="cache")
    source = (await client.get("/kv_event_sources")).json()["0"]
    assert source["endpoint"] == engine.kv_endpoint
    assert source["replay_endpoint"] == engine.kv_replay_endpoint
    assert source["topic"] == "cache"
    assert not engine.kv_endpoint.endswith(":0")


async def test_a_restarted_engine_counts_from_zero_on_the_same_ports(
    start_engine: StartEngine, ear: Ear
) -> None:
    engine = await start_engine(prefix_cache=PrefixCacheConfig(64, 16), kv_events=KVEventsConfig())
    before = (engine.url, engine.kv_endpoint, engine.kv_replay_endpoint)
    async with httpx.AsyncClient(base_url=engine.url, verify=False) as client:
        await complete(client, PROMPT)
    await engine.stop()
    assert engine.stats.requests_seen == 1
    await engine.start()
    assert (engine.url, engine.kv_endpoint, engine.kv_replay_endpoint) == before
    assert engine.stats.requests_seen == 0
    async with httpx.AsyncClient(base_url=engine.url, verify=False) as client:
        usage = (await complete(client, PROMPT))["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0
    assert [number for _, number, _ in await ear.replay(engine, 0)] == [0]
