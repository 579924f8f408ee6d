"""vLLM's KV events on the wire: PUB for live batches, ROUTER for replay.

A batch is the multipart message `[topic, sequence number (8 bytes, big-endian), msgpack]`; the payload is
the array `[timestamp, [events], data-parallel rank]`, an event a map with `type` first and default-valued
fields left out. Source: `vllm/distributed/kv_events.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec
import zmq
from zmq.asyncio import Context, Socket

from engine_adapter.fake.config import KVEventsConfig

END_OF_REPLAY = (-1).to_bytes(8, "big", signed=True)
"""Sequence number of the message that ends a replay."""

BlockHash = int | bytes


class BlockStored(msgspec.Struct, tag=True, omit_defaults=True, gc=False):
    """Blocks that became reusable, a chain whose first member follows `parent_block_hash`."""

    block_hashes: list[BlockHash]
    parent_block_hash: BlockHash | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None
    medium: str | None
    lora_name: str | None
    extra_keys: list[tuple[str, ...] | None] | None = None
    group_idx: int | None = None
    kv_cache_spec_kind: str | None = None


class BlockRemoved(msgspec.Struct, tag=True, omit_defaults=True, gc=False):
    """Blocks that were evicted."""

    block_hashes: list[BlockHash]
    medium: str | None
    group_idx: int | None = None


class AllBlocksCleared(msgspec.Struct, tag=True, omit_defaults=True, gc=False):
    """The whole prefix cache was reset."""


CacheEvent = BlockStored | BlockRemoved | AllBlocksCleared


class EventBatch(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    """What one engine step changed."""

    ts: float
    events: list[CacheEvent]
    data_parallel_rank: int | None = None


class KVEventPublisher:
    """Publishes batches and answers replay requests from a bounded buffer."""

    def __init__(self, config: KVEventsConfig) -> None:
        self._config = config
        self._encoder = msgspec.msgpack.Encoder()
        self._topic = config.topic.encode()
        self._buffer: deque[tuple[bytes, bytes]] = deque(maxlen=config.buffer_steps)
        self._context: Context | None = None
        self._pub: Any = None
        self._router: Socket | None = None
        self._replayer: asyncio.Task[None] | None = None
        self.sequence = 0
        """Sequence number of the next batch."""
        self.lost = 0
        """Batches that `lose_every` kept from the wire."""
        self.endpoint = config.endpoint
        self.replay_endpoint = config.replay_endpoint

    async def start(self) -> None:
        """Bind the sockets; `endpoint` and `replay_endpoint` then hold the real ports."""
        self._context = Context()
        # PUB never blocks, it drops at its high-water mark: a plain socket saves a task per batch.
        self._pub = zmq.Context.shadow(self._context.underlying).socket(zmq.PUB)
        self._pub.set_hwm(self._config.hwm)
        self.endpoint = await _bind(self._pub, self._config.endpoint)
        if self._config.replay_endpoint is not None:
            self._router = self._context.socket(zmq.ROUTER)
            self.replay_endpoint = await _bind(self._router, self._config.replay_endpoint)
            self._replayer = asyncio.get_running_loop().create_task(self._serve_replay(self._router))

    async def stop(self) -> None:
        """Close the sockets and forget the buffer."""
        if self._replayer is not None:
            self._replayer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._replayer
        for socket in (self._router, self._pub):
            if socket is not None:
                socket.close(linger=0)
        if self._context is not None:
            self._context.destroy(linger=0)
        self._router = self._pub = self._replayer = self._context = None

    def publish(self, events: Sequence[CacheEvent], timestamp: float) -> None:
        """Send one batch, stamped `timestamp` (Unix seconds)."""
        if self._pub is None:
            return
        number = self.sequence.to_bytes(8, "big")
        self.sequence += 1
        payload = self._encoder.encode(EventBatch(timestamp, list(events), 0))
        self._buffer.append((number, payload))
        if self._config.lose_every and self.sequence % self._config.lose_every == 0:
            self.lost += 1
            return
        self._pub.send_multipart((self._topic, number, payload), zmq.NOBLOCK)

    def describe(self) -> dict[str, Any]:
        """The entry `/kv_event_sources` has for this engine."""
        return {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": self.endpoint,
            "replay_endpoint": self.replay_endpoint,
            "buffer_steps": self._config.buffer_steps,
            "hwm": self._config.hwm,
            "max_queue_size": 100_000,
            "topic": self._config.topic,
        }

    async def _serve_replay(self, router: Socket) -> None:
        while True:
            frames = await router.recv_multipart()
            if len(frames) != 3:
                continue
            client, _, start = frames
            for number, payload in list(self._buffer):
                # Big-endian numbers of equal length compare as their values do.
                if number >= start:
                    await router.send_multipart((client, b"", self._topic, number, payload))
            await router.send_multipart((client, b"", b"", END_OF_REPLAY, b""))


async def _bind(socket: Any, endpoint: str) -> str:
    """Bind once a predecessor on the same port is gone; returns the endpoint with its real port."""
    for attempt in range(50):
        try:
            socket.bind(endpoint)
            break
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE or attempt == 49:
                raise
            await asyncio.sleep(0.02)
    bound: bytes = socket.getsockopt(zmq.LAST_ENDPOINT)
    return bound.decode().rstrip("\0")
