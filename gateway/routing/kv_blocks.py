"""The blocks that one engine says it holds, as a tree by their chained hashes."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from gateway.routing.discard import Discard
from gateway.routing.kv_wire import BlockHash, BlockRemoved, BlockStored, KVEventError
from gateway.routing.segments import BlockMap
from gateway.routing.tiers import DEVICE, tier_of


class Block(msgspec.Struct, gc=False, eq=False):
    """`tiers` as in `tiers`; `number` counts from 1 at the root, None where unknown."""

    hash: BlockHash
    parent: Block | None
    tiers: int
    number: int | None = None


class EngineBlocks:
    """Applies events in order. `block_size` is learned from the device's first and must stay.

    Events of other tiers only say where a block is as well: vLLM's own offloading names neither parent nor
    size in them. A hybrid model publishes one chain per cache group; only the first group is followed,
    because a prefix is of use only where all groups have it.
    """

    def __init__(self, max_blocks: int) -> None:
        self.block_size: int | None = None
        self._blocks: BlockMap[Block] = BlockMap()
        self._max_blocks = max_blocks
        self._discard = Discard()
        self.overflowed = 0
        """Blocks left out because there were more than `max_blocks`."""

    def __len__(self) -> int:
        return len(self._blocks)

    def get(self, hash_: BlockHash) -> Block | None:
        """The block, if some tier holds it."""
        return self._blocks.get(hash_)

    def store(self, event: BlockStored) -> list[Block]:
        """The event's blocks, in order from the shallowest. Raises KVEventError for another block size."""
        if self._discard:
            self._discard.step()
        if event.group_idx not in (None, 0):
            return []
        tier = tier_of(event.medium, event.locality)
        if tier != DEVICE:
            return self._store_lower(event, tier)
        if self.block_size is None:
            self.block_size = event.block_size
        elif self.block_size != event.block_size:
            raise KVEventError(
                f"the engine's blocks have {event.block_size} tokens after {self.block_size}; "
                "it is one engine per endpoint, restart it with one --block-size"
            )
        parent = None if event.parent_block_hash is None else self._blocks.get(event.parent_block_hash)
        # A parent that is not known (its event was before our time) leaves the depth of its children open.
        number = 0 if event.parent_block_hash is None else parent.number if parent is not None else None
        stored: list[Block] = []
        for hash_ in event.block_hashes:
            number = None if number is None else number + 1
            block = self._blocks.get(hash_)
            if block is None:
                if len(self._blocks) >= self._max_blocks:
                    self.overflowed += 1
                    break
                block = Block(hash_, parent, tier)
                self._blocks.put(hash_, block)
            else:
                block.tiers |= tier
            if parent is not None:
                block.parent = parent
            if number is not None:
                block.number = number
            stored.append(block)
            parent = block
        return stored

    def _store_lower(self, event: BlockStored, tier: int) -> list[Block]:
        stored: list[Block] = []
        for hash_ in event.block_hashes:
            block = self._blocks.get(hash_)
            if block is None:
                if len(self._blocks) >= self._max_blocks:
                    self.overflowed += 1
                    break
                block = Block(hash_, None, tier)
                self._blocks.put(hash_, block)
            block.tiers |= tier
            stored.append(block)
        return stored

    def remove(self, event: BlockRemoved) -> list[Block]:
        """The blocks that the event changed; those with no tiers left are forgotten."""
        if event.group_idx not in (None, 0):
            return []
        tier = tier_of(event.medium, event.locality)
        changed: list[Block] = []
        for hash_ in event.block_hashes:
            block = self._blocks.get(hash_)
            if block is None:
                continue
            block.tiers &= ~tier
            if not block.tiers:
                self._blocks.pop(hash_)
            changed.append(block)
        return changed

    def clear(self) -> None:
        """Everything is gone; the block size may be another one from now on."""
        for discarded in self._blocks.take():
            self._discard.add(discarded)
        self.block_size = None
        self.overflowed = 0


def chain(block: Block) -> Iterator[Block]:
    """The block and those before it, to the root."""
    at: Block | None = block
    while at is not None:
        yield at
        at = at.parent
