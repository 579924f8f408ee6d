"""The fake engine's KV cache: a finite pool of blocks with vLLM's prefix caching and eviction order.

Follows `vllm/v1/core/block_pool.py`: freed blocks without a hash are reused first; hashed ones queue behind
the others, a request's last block before its first, so that leaves go before their parents and the longest
unused first. Identical blocks are not merged. Differences: a request reserves its whole length when it is
admitted, so that nothing is ever preempted, and all choices of one prompt share the first choice's blocks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine_adapter.fake.block_hash import BlockHasher, ExtraKey
from engine_adapter.fake.config import PrefixCacheConfig
from engine_adapter.fake.kv_events import AllBlocksCleared, BlockRemoved, BlockStored, CacheEvent
from engine_adapter.fake.tokens import Prompt


@dataclass(frozen=True, slots=True)
class CacheScope:
    """What keeps equal tokens of different requests apart in the cache."""

    lora_name: str | None = None
    lora_path: str = ""
    lora_id: int | None = None
    salt: str | None = None

    @property
    def lora_keys(self) -> tuple[ExtraKey, ...]:
        """Extra hash keys of every block."""
        return (("lora", self.lora_name, self.lora_path),) if self.lora_name is not None else ()

    @property
    def salt_keys(self) -> tuple[ExtraKey, ...]:
        """Extra hash keys of the first block."""
        return (("cache_salt", self.salt),) if self.salt else ()


NO_SCOPE = CacheScope()


class Block:
    """One block of the pool."""

    __slots__ = ("digest", "number", "references")

    def __init__(self, number: int) -> None:
        self.number = number
        self.references = 0
        self.digest: bytes | None = None


@dataclass(slots=True)
class Allocation:
    """The blocks one sequence holds, from admission to its end."""

    prompt: Prompt
    scope: CacheScope
    answer: Sequence[str]
    """Pieces the sequence will generate; they are part of later blocks."""
    blocks: list[Block] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    """Hashes of the leading full blocks, those already in the cache."""
    reserved: int = 0
    """Blocks this sequence may still take."""
    cached_tokens: int = 0
    sequence: Prompt | None = None
    next_block_at: int = 0
    """Number of computed tokens at which `BlockPool.grow` has something to do."""


class BlockPool:
    """Allocates blocks, finds cached prefixes, evicts, and records each change as a KV event."""

    def __init__(
        self, config: PrefixCacheConfig, *, int_hashes: bool = True, record_events: bool = False
    ) -> None:
        self.block_size = config.block_size
        self.num_blocks = config.num_blocks
        self._int_hashes = int_hashes
        self._record_events = record_events
        self._hasher = BlockHasher(config.block_size, config.hash_seed)
        self._blocks = [Block(number) for number in range(config.num_blocks)]
        # Keys in eviction order; a dict gives removal from the middle in constant time.
        self._free: OrderedDict[Block, None] = OrderedDict.fromkeys(self._blocks)
        self._cached: dict[bytes, dict[Block, None]] = {}
        self._reserved = 0
        self._events: list[CacheEvent] = []
        self.queried_tokens = 0
        self.hit_tokens = 0

    @property
    def usage(self) -> float:
        """Share of the blocks that requests hold, 0 to 1."""
        return 1.0 - len(self._free) / self.num_blocks

    @property
    def cached_blocks(self) -> int:
        """Blocks with a hash, held or free."""
        return sum(map(len, self._cached.values()))

    def cached_hashes(self) -> set[bytes]:
        """Hashes a request could hit now."""
        return set(self._cached)

    def blocks_for(self, tokens: int) -> int:
        """Blocks that `tokens` tokens fill or begin to fill."""
        return -(-tokens // self.block_size)

    def allocate(self, prompt: Prompt, scope: CacheScope, answer: Sequence[str]) -> Allocation | None:
        """Take the prompt's blocks, cached ones first, and reserve those of the answer.

        Returns None, and changes nothing, if the pool cannot hold the whole sequence now.
        """
        allocation = Allocation(prompt, scope, answer)
        hashes: list[bytes] = []
        self._hasher.extend(hashes, prompt, scope.lora_keys, scope.salt_keys)
        hits: list[Block] = []
        # The last token is always computed, for its logits: a fully cached prompt misses its last block.
        for digest in hashes[: max(0, prompt.count - 1) // self.block_size]:
            found = self._cached.get(digest)
            if found is None:
                break
            hits.append(next(iter(found)))
        total = self.blocks_for(prompt.count + max(0, len(answer) - 1))
        idle_hits = sum(block.references == 0 for block in hits)
        if total - len(hits) > len(self._free) - idle_hits - self._reserved:
            return None
        for block in hits:
            if block.references == 0:
                del self._free[block]
            block.references += 1
        fresh = [self._take() for _ in range(self.blocks_for(prompt.count) - len(hits))]
        allocation.blocks = hits + fresh
        allocation.reserved = total - len(allocation.blocks)
        self._reserved += allocation.reserved
        allocation.cached_tokens = len(hits) * self.block_size
        self.queried_tokens += prompt.count
        self.hit_tokens += allocation.cached_tokens
        allocation.hashes = hashes[: len(hits)]
        self._store(allocation, prompt, hashes)
        self._plan_growth(allocation)
        return allocation

    def grow(self, allocation: Allocation, computed_tokens: int) -> None:
        """Account for KV of `computed_tokens` tokens: take blocks as they begin, cache them as they fill."""
        while len(allocation.blocks) < self.blocks_for(computed_tokens):
            allocation.blocks.append(self._take())
            allocation.reserved -= 1
            self._reserved -= 1
        full = computed_tokens // self.block_size
        if full > len(allocation.hashes):
            if allocation.sequence is None:
                allocation.sequence = allocation.prompt.followed_by(allocation.answer)
            hashes = list(allocation.hashes)
            self._hasher.extend(
                hashes, allocation.sequence, allocation.scope.lora_keys, allocation.scope.salt_keys
            )
            self._store(allocation, allocation.sequence, hashes[:full])
        self._plan_growth(allocation)

    def free(self, allocation: Allocation) -> None:
        """Give a sequence's blocks and reservation back; what it cached stays until evicted."""
        self._reserved -= allocation.reserved
        allocation.reserved = 0
        unhashed: list[Block] = []
        for block in reversed(allocation.blocks):
            block.references -= 1
            if block.references == 0:
                if block.digest is None:
                    unhashed.append(block)
                else:
                    self._free[block] = None
        for block in reversed(unhashed):
            self._free[block] = None
            self._free.move_to_end(block, last=False)
        allocation.blocks = []

    def reset(self) -> bool:
        """Forget every cached prefix; False, and nothing happens, while a request holds blocks."""
        if len(self._free) < self.num_blocks:
            return False
        self._cached.clear()
        for block in self._blocks:
            block.digest = None
        if self._record_events:
            self._events.append(AllBlocksCleared())
        return True

    def take_events(self) -> list[CacheEvent]:
        """The events since the last call, in order."""
        events, self._events = self._events, []
        return events

    def _plan_growth(self, allocation: Allocation) -> None:
        begins = len(allocation.blocks) * self.block_size + 1
        fills = (len(allocation.hashes) + 1) * self.block_size
        allocation.next_block_at = min(begins, fills)

    def _external(self, digest: bytes) -> int | bytes:
        return int.from_bytes(digest[-8:], "big") if self._int_hashes else digest

    def _take(self) -> Block:
        block, _ = self._free.popitem(last=False)
        block.references = 1
        if block.digest is not None:
            self._evict(block, block.digest)
        return block

    def _evict(self, block: Block, digest: bytes) -> None:
        holders = self._cached[digest]
        del holders[block]
        if not holders:
            del self._cached[digest]
        block.digest = None
        if self._record_events:
            self._events.append(BlockRemoved([self._external(digest)], "GPU", group_idx=0))

    def _store(self, allocation: Allocation, sequence: Prompt, hashes: list[bytes]) -> None:
        """Cache the blocks that `hashes` names beyond the allocation's own, as one event."""
        first, last = len(allocation.hashes), len(hashes)
        if first >= last:
            return
        for number in range(first, last):
            block, digest = allocation.blocks[number], hashes[number]
            block.digest = digest
            self._cached.setdefault(digest, {})[block] = None
        parent = allocation.hashes[-1] if allocation.hashes else None
        allocation.hashes = hashes
        if not self._record_events:
            return
        scope = allocation.scope
        lora = (scope.lora_name,) if scope.lora_name is not None else ()
        extra: list[tuple[str, ...] | None] = [lora or None] * (last - first)
        if first == 0 and scope.salt:
            extra[0] = (*lora, scope.salt)
        self._events.append(
            BlockStored(
                block_hashes=[self._external(digest) for digest in hashes[first:last]],
                parent_block_hash=None if parent is None else self._external(parent),
                token_ids=list(sequence.ids()[first * self.block_size : last * self.block_size]),
                block_size=self.block_size,
                lora_id=scope.lora_id,
                medium="GPU",
                lora_name=scope.lora_name,
                extra_keys=extra,
                group_idx=0,
                kv_cache_spec_kind="full_attention",
            )
        )
