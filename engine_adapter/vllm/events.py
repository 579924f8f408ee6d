"""What the store gains and loses, told in vLLM's own KV event stream, under vLLM's own block hashes.

Routers follow that stream anyway; there a block has one name whichever tier it lies in, and `medium` says
which: `GPU` is the engine's cache (on a CPU as well), `memory`, `file`, `valkey` and `object` are the
store's.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.keys import ChunkKey
from cache.ledger import Event

if TYPE_CHECKING:
    from vllm.distributed.kv_events import KVCacheEvent
    from vllm.v1.core.kv_cache_utils import BlockHash
    from vllm.v1.request import Request

MOST_NAMES = 1 << 18
"""Chunks whose names are remembered; beyond that the oldest lose theirs, and nothing is told of them."""


@dataclass(frozen=True, slots=True)
class Names:
    """A chunk as the engine knows it."""

    blocks: tuple[BlockHash, ...]
    parent: BlockHash | None
    tokens: array[int]
    """As `array`: a quarter of the memory of as many Python numbers."""
    lora: str | None


class EventNames:
    """Turns the store's events into vLLM's. Not thread-safe."""

    def __init__(self, block_tokens: int, chunk_blocks: int) -> None:
        self._block_tokens = block_tokens
        self._chunk_blocks = chunk_blocks
        self._names: dict[ChunkKey, Names] = {}

    def learn(self, request: Request, keys: Sequence[ChunkKey], first: int, count: int) -> None:
        """Chunks `first` to `first + count` of a request, which has `keys`, may come up in events."""
        hashes = request.block_hashes
        for number in range(first, first + count):
            begin, end = number * self._chunk_blocks, (number + 1) * self._chunk_blocks
            if keys[number] in self._names or end > len(hashes):
                continue
            if len(self._names) >= MOST_NAMES:
                del self._names[next(iter(self._names))]
            self._names[keys[number]] = Names(
                tuple(hashes[begin:end]),
                hashes[begin - 1] if begin else None,
                array("i", request.all_token_ids[begin * self._block_tokens : end * self._block_tokens]),
                request.lora_request.lora_name if request.lora_request is not None else None,
            )

    def translate(self, events: Iterable[Event]) -> Iterator[KVCacheEvent]:
        """vLLM's events for those whose chunks have names."""
        from vllm.distributed.kv_events import BlockRemoved, BlockStored
        from vllm.v1.core.kv_cache_utils import maybe_convert_block_hash

        for event in events:
            names = self._names.get(event.key)
            if names is None:
                continue
            blocks = [maybe_convert_block_hash(block) for block in names.blocks]
            if not event.stored:
                yield BlockRemoved(block_hashes=blocks, medium=event.tier, group_idx=0)
                continue
            yield BlockStored(
                block_hashes=blocks,
                parent_block_hash=None if names.parent is None else maybe_convert_block_hash(names.parent),
                token_ids=names.tokens.tolist(),
                block_size=self._block_tokens,
                lora_id=None,
                lora_name=names.lora,
                medium=event.tier,
                group_idx=0,
            )
