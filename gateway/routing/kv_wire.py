"""vLLM's KV events as they come over ZMQ; what the gateway does not need of them is skipped, not decoded.

A message is `[topic, sequence number (8 bytes, big-endian), msgpack]`, the payload the array
`[timestamp, [events], data-parallel rank]`, an event a map with its `type`. Source:
`vllm/distributed/kv_events.py`.
"""

from __future__ import annotations

from typing import Final

import msgspec

END_OF_REPLAY: Final = (1 << 64) - 1
"""Sequence number of the message that ends a replay."""

BlockHash = int | bytes


class BlockStored(msgspec.Struct, tag=True, gc=False):
    """A chain of blocks became reusable; its first member follows `parent_block_hash`."""

    block_hashes: list[BlockHash]
    block_size: int
    parent_block_hash: BlockHash | None = None
    medium: str | None = None
    group_idx: int | None = None
    locality: str | None = None
    """"REMOTE" where the medium is not on the engine's own machine."""


class BlockRemoved(msgspec.Struct, tag=True, gc=False):
    """Blocks are gone from `medium`."""

    block_hashes: list[BlockHash]
    medium: str | None = None
    group_idx: int | None = None
    locality: str | None = None


class AllBlocksCleared(msgspec.Struct, tag=True, gc=False):
    """The whole prefix cache was reset."""


CacheEvent = BlockStored | BlockRemoved | AllBlocksCleared


class EventBatch(msgspec.Struct, array_like=True, gc=False):
    """What one engine step changed."""

    ts: float
    events: list[CacheEvent]
    data_parallel_rank: int | None = None


class KVEventError(ValueError):
    """A message is not a KV event batch that this gateway can use; the message says why."""


_decoder = msgspec.msgpack.Decoder(EventBatch)


def decode_batch(payload: bytes) -> EventBatch:
    """Raises KVEventError."""
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise KVEventError(f"not a KV event batch of vLLM: {error}") from error


def decode_message(frames: list[bytes]) -> tuple[int, bytes]:
    """Sequence number and payload of a message, from PUB (topic first) or from a replay (delimiter and topic
    first). Raises KVEventError."""
    if len(frames) < 3 or len(frames[-2]) != 8:
        raise KVEventError(
            f"a KV event message has topic, 8-byte sequence number and payload, not {len(frames)} frames "
            f"of {[len(f) for f in frames]} bytes"
        )
    return int.from_bytes(frames[-2], "big"), frames[-1]
