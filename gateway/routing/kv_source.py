"""One engine's KV events, from batches to the mirror: sequence, blocks, links and a status. Sans I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from gateway.routing.kv_blocks import EngineBlocks
from gateway.routing.kv_links import PromptLinks
from gateway.routing.kv_sequence import EventSequence, Verdict
from gateway.routing.kv_wire import AllBlocksCleared, BlockStored, CacheEvent, EventBatch, decode_batch
from gateway.routing.state import WorkerState

Status = Literal["connecting", "live", "degraded", "refused"]
"""`degraded`: events were lost for good, so blocks may be listed that are gone; the mirror counts instead,
until the worker restarts or clears its cache. `refused`: the events cannot be used."""

SLICE: Final = 128
"""Blocks that are applied in one go: a fraction of a millisecond."""


@dataclass(frozen=True, slots=True)
class SourceReport:
    """For metrics and the admin API; counts since the worker joined."""

    worker: str
    endpoint: str
    status: Status
    message: str
    batches: int
    gaps: int
    lost_batches: int
    restarts: int
    block_size: int | None
    blocks: int
    linked_chunks: int
    joined: int
    ambiguous: int
    unmatched: int


class EventSource:
    """Feeds one worker's state."""

    def __init__(self, state: WorkerState, endpoint: str, max_blocks: int) -> None:
        self.state = state
        self.endpoint = endpoint
        self.status: Status = "connecting"
        self.message = ""
        self.batches = self.gaps = self.lost_batches = self.restarts = 0
        self.sequence = EventSequence()
        self._blocks = EngineBlocks(max_blocks)
        self._links = PromptLinks(self._blocks, state.cache)
        state.links = self._links

    def live(self, number: int, payload: bytes) -> Verdict:
        """A batch from the subscription: GAP asks for a replay and to be offered the batch again."""
        if number >= self.sequence.expected:
            return self.offer(number)
        if decode_batch(payload).ts <= self.sequence.latest_timestamp:
            return Verdict.DUPLICATE
        self.restart()
        return self.offer(number)

    def offer(self, number: int) -> Verdict:
        """Whether the batch is next; one that is must be given to `apply`."""
        verdict = self.sequence.offer(number)
        if verdict is Verdict.GAP:
            self.gaps += 1
        return verdict

    def give_up_before(self, number: int) -> None:
        """The batches up to `number` cannot be had any more."""
        lost = self.sequence.skip_to(number)
        self.lost_batches += lost
        if lost and len(self._blocks):
            self._degrade(f"{lost} batches of events are lost; exact again after a restart or a cache reset")

    def apply(self, payload: bytes) -> list[EventBatch]:
        """Decode a batch that is next and split it into slices for `apply_slice`. Raises KVEventError."""
        batch = decode_batch(payload)
        self.batches += 1
        self.sequence.latest_timestamp = batch.ts
        return _slices(batch)

    def apply_slice(self, batch: EventBatch, now: float) -> None:
        """Raises KVEventError for events that cannot be used."""
        for event in batch.events:
            if isinstance(event, BlockStored):
                self._links.stored(event, now)
            elif isinstance(event, AllBlocksCleared):
                self._start_over()
            else:
                self._links.removed(event)
        if self._blocks.overflowed:
            self._start_over()
            self._degrade("the engine lists more blocks than routing.kv_max_blocks; raise it")
        self._links.join_pending(now)

    def look_again(self, now: float) -> None:
        """Time has passed: requests may have become ripe for being joined to their blocks."""
        self._links.join_pending(now)

    def restart(self) -> None:
        """The engine is a new one, with an empty cache and its count at zero."""
        self.restarts += 1
        self.sequence = EventSequence()
        self._start_over()

    def caught_up(self) -> None:
        """Everything that the engine has published is applied."""
        if self.status == "connecting":
            self._go_live()

    def replay_answered(self) -> None:
        """Takes back the complaint that it did not."""
        if self.status == "live":
            self.message = ""

    def refuse(self, message: str) -> None:
        """Go on without this source."""
        self.status, self.message = "refused", message
        self.state.confirmed = self.state.links = None

    def report(self) -> SourceReport:
        return SourceReport(
            worker=self.state.worker.id,
            endpoint=self.endpoint,
            status=self.status,
            message=self.message,
            batches=self.batches,
            gaps=self.gaps,
            lost_batches=self.lost_batches,
            restarts=self.restarts,
            block_size=self._blocks.block_size,
            blocks=len(self._blocks),
            linked_chunks=len(self._links),
            joined=self._links.joined,
            ambiguous=self._links.ambiguous,
            unmatched=self._links.unmatched,
        )

    def _start_over(self) -> None:
        self._links.cleared()
        if self.status == "degraded":
            self.message = ""
            self._go_live()

    def _go_live(self) -> None:
        self.status = "live"
        self.state.confirmed = self._links

    def _degrade(self, message: str) -> None:
        self.status, self.message = "degraded", message
        self.state.confirmed = None


def _slices(batch: EventBatch) -> list[EventBatch]:
    """The batch in parts of at most SLICE blocks, in order."""
    return [
        EventBatch(batch.ts, [part], batch.data_parallel_rank)
        for event in batch.events
        for part in _parts(event)
    ]


def _parts(event: CacheEvent) -> Iterator[CacheEvent]:
    if isinstance(event, AllBlocksCleared) or len(event.block_hashes) <= SLICE:
        yield event
        return
    hashes = event.block_hashes
    for start in range(0, len(hashes), SLICE):
        part = msgspec.structs.replace(event, block_hashes=hashes[start : start + SLICE])
        if isinstance(part, BlockStored) and start:
            part.parent_block_hash = hashes[start - 1]
        yield part
