"""What the connector remembers of one request while the engine has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cache.arena import SlotRef
from cache.economy import Decision, Economy
from cache.keys import ChunkKey, chunk_keys
from cache.lease import BorrowState, Lease

if TYPE_CHECKING:
    from vllm.v1.request import Request

ENGINE = "engine"
COMPUTED = "computed"


@dataclass(frozen=True, slots=True)
class Match:
    """Chunks of the store that go on where the engine's own prefix cache ends."""

    computed: int
    """Tokens that the engine has itself; a multiple of its block."""
    first: int
    """Chunk that `slots[0]` holds."""
    slots: Sequence[SlotRef]
    tiers: Sequence[str]
    """Where each of them was found."""
    patience: float = 0.0
    """Seconds that slots may still take to be filled; 0: all are."""


@dataclass(slots=True)
class Tracked:
    """One request that may use the store."""

    request: Request
    namespace: bytes
    chunk_tokens: int
    keys: list[ChunkKey] = field(default_factory=list)
    """Of its full chunks, as far as they were needed."""
    local: int = 0
    """Tokens that the engine's own prefix cache had when it last asked."""
    lease: Lease | None = None
    first: int = 0
    """Chunk that `lease` begins with."""
    match: Match | None = None
    decision: Decision | None = None
    """Why and how long something was to be fetched, until that is known to be right or wrong."""
    fetch_began: float = 0.0
    patience: float = 0.0
    """Seconds that the fetch may take."""
    considered: int = 0
    """Leading chunks that are saved, or that saving was tried for."""
    sources: dict[str, int] = field(default_factory=dict)
    """Prompt tokens by where their KV came from when the request was first admitted; empty before."""
    last_blocks: list[int] = field(default_factory=list)
    """Its blocks when it ended."""

    def keys_until(self, chunks: int) -> list[ChunkKey]:
        """Keys of at least the first `chunks` chunks, which must be full of known tokens."""
        have = len(self.keys)
        if have < chunks:
            start, end = have * self.chunk_tokens, chunks * self.chunk_tokens
            self.keys += chunk_keys(
                self.namespace,
                self.request.all_token_ids[start:end],
                self.chunk_tokens,
                parent=self.keys[-1] if self.keys else None,
                extras=_images(self.request, start, end, self.chunk_tokens),
            )
        return self.keys

    def hold(self, lease: Lease, first: int) -> None:
        """Keep a lease on chunks from `first` on, in place of an earlier one."""
        self.let_go()
        self.lease, self.first = lease, first

    def holds(self, first: int) -> Lease | None:
        """The lease on chunks from `first` on, if there is one that lives."""
        if self.lease is not None and self.first == first and self.lease.state is BorrowState.HELD:
            return self.lease
        return None

    def judge(self, economy: Economy, lease: Lease) -> None:
        """The fetch for the lease that was decided on has ended, if it has."""
        decision, self.decision = lease.decision or self.decision, None
        if decision is not None and decision.chunks and self.fetch_began and lease.ended is not None:
            economy.judge(decision, lease.ended - self.fetch_began)
        self.fetch_began = 0.0

    def let_go(self) -> None:
        if self.lease is not None:
            self.lease.release()
            self.lease = None
        self.match = None

    def hand_over(self) -> Lease | None:
        """The lease, which from here on is somebody else's to release."""
        lease, self.lease = self.lease, None
        return lease

    def computed_after_all(self, tokens: int) -> None:
        """KV from token `tokens` on turned out not to be there: what was counted for slower sources is
        undone."""
        lost = self.request.num_prompt_tokens - tokens - self.sources.get(COMPUTED, 0)
        for source in reversed(list(self.sources)):
            if source not in (ENGINE, COMPUTED) and lost > 0:
                taken = min(lost, self.sources[source])
                self.sources[source] -= taken
                self.sources[COMPUTED] += taken
                lost -= taken


def _images(request: Request, start: int, end: int, chunk_tokens: int) -> list[Any] | None:
    """Per chunk of tokens `start` to `end` the hashes of the inputs whose placeholders it holds, and where.

    Placeholder ids are the same for every image: without this two images would share their KV.
    """
    if not request.mm_features:
        return None
    extras: list[Any] = []
    for begin in range(start, end, chunk_tokens):
        held = [
            [feature.identifier, feature.mm_position.offset - begin]
            for feature in request.mm_features
            if feature.mm_position.offset < begin + chunk_tokens
            and begin < feature.mm_position.offset + feature.mm_position.length
        ]
        extras.append(held or None)
    return extras
