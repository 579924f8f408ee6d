"""Which blocks the text of a past request became, learned by watching: no tokenizer, no chat template.

A request of N prompt tokens fills N // block_size blocks, and the engine publishes the last of them while
the request is prefilled. If exactly one chain that ends at that depth appeared between the request's start
and shortly after its first token, that chain is the prompt; where the engine also says how many tokens it
found cached, the chain must begin right after them. Chunks of the text are then laid over the chain in
proportion. The hash algorithm and its seed do not matter, and may differ between workers.

Once a chunk is linked, the engine's events say when it comes and goes, and the mirror follows them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, deque
from math import ceil
from typing import Final

from gateway.routing.fingerprint import Fingerprint
from gateway.routing.index import CacheMirror
from gateway.routing.kv_blocks import Block, EngineBlocks, chain
from gateway.routing.kv_wire import BlockHash, BlockRemoved, BlockStored
from gateway.routing.segments import BlockMap, RecentMap
from gateway.routing.state import EndedRequest
from gateway.routing.tiers import DEVICE, SharedTiers, tier_of

RECENT_EVENTS: Final = 1024
PENDING: Final = 256
EARLY_S: Final = 0.05
LATE_S: Final = 0.5
"""Events of a prefill may come this long before the request's start is stamped or after its first token."""
GIVE_UP_S: Final = 5.0
UNLINKED: Final = 8192
"""Blocks in shared tiers that are remembered in case their prompt is found later."""


class PromptLinks:
    """Joins one engine's blocks to prompts, and keeps its mirror to what the engine says."""

    def __init__(self, blocks: EngineBlocks, cache: CacheMirror) -> None:
        self._blocks = blocks
        self._cache = cache
        self._block_of: RecentMap[BlockHash] = RecentMap()
        self._chunks_of: BlockMap[dict[int, int]] = BlockMap()
        self._recent: deque[tuple[float, int, Block]] = deque(maxlen=RECENT_EVENTS)
        self._pending: deque[EndedRequest] = deque(maxlen=PENDING)
        self._unlinked: OrderedDict[BlockHash, int] = OrderedDict()
        self.joined = self.ambiguous = self.unmatched = 0
        """Requests whose blocks were found; were one of several; were not seen at all."""

    def __len__(self) -> int:
        return len(self._block_of)

    def depth(self, prompt: Fingerprint) -> int:
        """How many of the prompt's prefixes the engine holds on its device by its own word."""
        hashes = prompt.hashes
        return len(hashes) - bisect_left(hashes, True, key=self._held)

    def _held(self, key: int) -> bool:
        hash_ = self._block_of.get(key)
        if hash_ is None:
            return False
        block = self._blocks.get(hash_)
        return block is not None and block.tiers & DEVICE != 0

    def stored(self, event: BlockStored, now: float) -> None:
        """Apply an event. Raises KVEventError (see `EngineBlocks.store`)."""
        tier = tier_of(event.medium, event.locality)
        if (shared := self._shared_with_others(tier)) is not None:
            if event.group_idx in (None, 0):
                self._stored_for_all(event.block_hashes, tier, shared)
            return
        blocks = self._blocks.store(event)
        if not blocks:
            return
        if tier == DEVICE and blocks[0].number is not None:
            self._recent.append((now, blocks[0].number, blocks[-1]))
        for block in blocks:
            if chunks := self._chunks_of.get(block.hash):
                self._follow(block, chunks)

    def removed(self, event: BlockRemoved) -> None:
        """Apply an event."""
        tier = tier_of(event.medium, event.locality)
        if (shared := self._shared_with_others(tier)) is not None:
            if event.group_idx in (None, 0):
                self._removed_for_all(event.block_hashes, tier, shared)
            return
        for block in self._blocks.remove(event):
            if chunks := self._chunks_of.get(block.hash):
                self._follow(block, chunks)

    def _shared_with_others(self, tier: int) -> SharedTiers | None:
        return next((shared for shared in self._cache.shared if shared.of & tier), None)

    def _stored_for_all(self, hashes: list[BlockHash], tier: int, shared: SharedTiers) -> None:
        unlinked = self._unlinked
        for hash_ in hashes:
            chunks = self._chunks_of.get(hash_)
            if chunks is None:
                unlinked[hash_] = unlinked.get(hash_, 0) | tier
                if len(unlinked) > UNLINKED:
                    unlinked.popitem(last=False)
                continue
            for key in chunks:
                shared.add(key, tier)

    def _removed_for_all(self, hashes: list[BlockHash], tier: int, shared: SharedTiers) -> None:
        for hash_ in hashes:
            for key in self._chunks_of.get(hash_) or ():
                shared.remove(key, tier)
            if left := self._unlinked.pop(hash_, 0) & ~tier:
                self._unlinked[hash_] = left

    def _follow(self, block: Block, chunks: dict[int, int]) -> None:
        for key, size in chunks.items():
            self._cache.correct(key, size, block.tiers)

    def cleared(self) -> None:
        """The engine's cache is empty; what its blocks mean is still known."""
        self._blocks.clear()
        self._cache.clear()
        self._recent.clear()
        self._pending.clear()

    def ended(self, request: EndedRequest) -> None:
        """A request ended well; its blocks are looked for once all events of its prefill should be here."""
        self._pending.append(request)
        self.join_pending(request.ended_at)

    def join_pending(self, now: float) -> None:
        """Try again to find the blocks of requests that ended lately."""
        for _ in range(len(self._pending)):
            request = self._pending.popleft()
            if now >= request.first_byte_at + LATE_S and self._join(request):
                continue
            if now - request.ended_at < GIVE_UP_S:
                self._pending.append(request)
            else:
                self.unmatched += 1

    def _join(self, request: EndedRequest) -> bool:
        """True if nothing more is to be done for it."""
        size = self._blocks.block_size
        if size is None:
            return False
        full = request.prompt_tokens // size
        cached = None if request.cached_tokens is None else request.cached_tokens // size
        if full == 0 or (cached is not None and cached >= full):
            return True
        matches = self._matches(request, full, cached)
        if len(matches) > 1:
            matches = self._consistent(request.prompt, matches)
        if len(matches) > 1:
            self.ambiguous += 1
            return True
        if not matches:
            return False
        self._link(request, matches[0], full, size)
        self.joined += 1
        return True

    def _matches(self, request: EndedRequest, full: int, cached: int | None) -> list[Block]:
        """Different blocks of number `full` that may be the request's last."""
        begin, end = request.assigned_at - EARLY_S, request.first_byte_at + LATE_S
        found: dict[BlockHash, Block] = {}
        for received, first, last in self._recent:
            if last.number != full or not begin <= received <= end:
                continue
            if cached is not None and first <= cached:
                continue  # it stored what was cached before
            if not self._is_anothers(last, request.prompt):
                found[last.hash] = last
        return list(found.values())

    def _is_anothers(self, block: Block, prompt: Fingerprint) -> bool:
        """Is the block linked to text that is not of this prompt?"""
        chunks = self._chunks_of.get(block.hash)
        return chunks is not None and not chunks.keys() <= set(prompt.hashes)

    def _consistent(self, prompt: Fingerprint, matches: list[Block]) -> list[Block]:
        """Those that go through the deepest block which the prompt's text is linked to already."""
        known = next((hash_ for key in prompt.hashes if (hash_ := self._block_of.get(key)) is not None), None)
        if known is None:
            return matches
        return [m for m in matches if any(block.hash == known for block in chain(m))] or matches

    def _link(self, request: EndedRequest, last: Block, full: int, block_size: int) -> None:
        by_number = {block.number: block for block in chain(last)}
        prompt = request.prompt
        chunks = len(prompt.hashes)
        blocks_per_byte = request.prompt_tokens / (prompt.total_bytes * block_size)
        covered = 0
        for depth in range(1, chunks + 1):
            before, covered = covered, prompt.covered(depth)
            number = min(full, ceil(covered * blocks_per_byte))
            block = by_number.get(number)
            if block is not None:
                key, now_held = prompt.hashes[chunks - depth], self._blocks.get(block.hash)
                self._set(key, block, covered - before)
                # It may have gone while we were waiting to be sure.
                self._cache.correct(key, covered - before, 0 if now_held is None else now_held.tiers)
                if tiers := self._unlinked.get(block.hash, 0):
                    for shared in self._cache.shared:
                        if tiers & shared.of:
                            shared.add(key, tiers & shared.of)

    def _set(self, key: int, block: Block, size: int) -> None:
        old = self._block_of.get(key)
        if old == block.hash:
            self._block_of.renew((key,))
            return
        if old is not None:
            self._drop(key, old)
        self._block_of.put(key, block.hash)
        chunks = self._chunks_of.get(block.hash)
        if chunks is None:
            self._chunks_of.put(block.hash, {key: size})
        else:
            chunks[key] = size
        while len(self._block_of) > self._cache.max_entries:
            ((oldest, hash_),) = self._block_of.pop_oldest(1)
            self._drop(oldest, hash_)

    def _drop(self, key: int, hash_: BlockHash) -> None:
        chunks = self._chunks_of.get(hash_)
        if chunks is not None:
            chunks.pop(key, None)
            if not chunks:
                self._chunks_of.pop(hash_)
