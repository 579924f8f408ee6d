"""The connector's half beside the scheduler: whose KV to load, which blocks to save. It owns the store.

The life of a request here:

* `match`: vLLM asks how far the store goes beyond its own prefix cache. Chunks in the arena are verified
  against their seals on the spot and promised; chunks in slower tiers are fetched first, while the request
  waits and others run (`None` means: ask again). What was promised can therefore not turn out to be missing
  or damaged.
* `allocated`: the request got blocks. Its loads join the plan of the step, which also keeps its lease.
* `plan`: all orders of one step. Chunks that the step completes get slots, unless the store has them.
* `reported`: the worker did it; leases end, saved chunks become visible.

A request that ends, however, gives back what it holds in `finished`; blocks never outlive their request.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

from cache.arena import SlotRef
from cache.cost import SHORT_STEP
from cache.counters import MEMORY
from cache.economy import Decision
from cache.lease import Lease, Reservation
from cache.store import Store
from engine_adapter.vllm.eligibility import is_served
from engine_adapter.vllm.events import EventNames
from engine_adapter.vllm.namespace import Namespaces
from engine_adapter.vllm.plan import StepPlan, StepReport, Transfer
from engine_adapter.vllm.stats import Totals
from engine_adapter.vllm.tracking import COMPUTED, ENGINE, Match, Tracked

if TYPE_CHECKING:
    from vllm.distributed.kv_events import KVCacheEvent
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.request import Request

IDLE_WAIT = 0.005
"""Seconds an engine with nothing else to do waits for a fetch, instead of asking for it in a tight loop that
takes the processor from the threads that fetch. New requests wait as long at most."""


UNKNOWN_SECONDS = 3.0
"""Longest wait for slower tiers while nobody knows what computing takes."""
LEAST_PATIENCE = 0.05
AHEAD_SECONDS = 0.05
"""Longest expected load for which an engine that has nothing else to do begins a request at once: what its
step needs before the model runs is done meanwhile."""
AHEAD_FACTOR = 4.0
"""Times the expected duration that such a step waits for them; then they are computed."""


class EngineCache(Protocol):
    """What is needed of vLLM's KVCacheManager."""

    def get_block_ids(self, request_id: str) -> tuple[list[int], ...]: ...

    def evict_blocks(self, block_ids: set[int]) -> None: ...


@dataclass(slots=True)
class Save:
    """A reservation whose slots are some of a plan's saves."""

    reservation: Reservation
    chunks: list[int]
    """Which of its chunks are written."""
    position: int
    """Of the first of them among the plan's saves."""


@dataclass(slots=True)
class InFlight:
    """What has to be settled when a step's report comes."""

    leases: list[Lease] = field(default_factory=list)
    saves: list[Save] = field(default_factory=list)
    requests: list[Tracked] = field(default_factory=list)
    """Those that computed something in it."""
    prefill: tuple[int, int] | None = None
    """Tokens of the one prompt in it, and how many came before them; of a short step, all tokens."""
    loads: int = 0
    """Chunks loaded in it."""


class SchedulerSide:
    """One per engine; all calls come from the thread that schedules.

    `block_tokens` are tokens per engine block, `chunk_blocks` blocks per chunk. With `save_decoded`, chunks
    of the answer are saved too as they fill up; without, the next turn's prompt brings them in.
    """

    def __init__(
        self,
        store: Store,
        namespaces: Namespaces,
        *,
        block_tokens: int,
        chunk_blocks: int,
        save_decoded: bool = False,
        tell_events: bool = False,
        recomputes: bool = True,
    ) -> None:
        """`recomputes`: the engine computes blocks whose load failed, instead of failing the request."""
        self.store = store
        self.totals = Totals()
        self._namespaces = namespaces
        self._block_tokens = block_tokens
        self._chunk_blocks = chunk_blocks
        self._chunk_tokens = block_tokens * chunk_blocks
        self._save_decoded = save_decoded
        self._events = EventNames(block_tokens, chunk_blocks) if tell_events else None
        self._engine_cache: EngineCache | None = None
        self._tracked: dict[str, Tracked] = {}
        self._fetching: dict[str, Lease] = {}
        self._allocated: list[tuple[Tracked, list[Transfer], float]] = []
        self._in_flight: dict[int, InFlight] = {}
        self._recomputes = recomputes
        self._running: set[str] = set()
        """Requests that computed something in the latest step, or start in the next, and have not ended."""
        self._step = 0

    @property
    def busy(self) -> bool:
        """Whether the engine has requests that this half knows of."""
        return bool(self._tracked)

    def bind_engine_cache(self, cache: EngineCache) -> None:
        self._engine_cache = cache

    def arrived(self, request: Request) -> None:
        """A new request; those whose KV is not decided by tokens alone are left to the engine."""
        if not is_served(request):
            return
        namespace = self._namespaces.of(request)
        if namespace is not None:
            self._tracked[request.request_id] = Tracked(request, namespace, self._chunk_tokens)

    def match(self, request: Request, computed: int) -> int | None:
        """Tokens the store has beyond the first `computed`; None while they are being fetched.

        At least one token is left for the engine to compute: somebody wants its logits.
        """
        tracked = self._tracked.get(request.request_id)
        if tracked is None:
            return 0
        tracked.local = computed
        first = computed // self._chunk_tokens
        usable: int = (request.num_tokens - 1) // self._block_tokens * self._block_tokens
        last = min(-(-usable // self._chunk_tokens), request.num_tokens // self._chunk_tokens)
        if request.skip_reading_prefix_cache or computed % self._block_tokens or last <= first:
            self._let_go(tracked)
            return 0
        lease = tracked.holds(first) or self._look_up(tracked, first, last)
        match = self._promise(tracked, lease, computed)
        if match is not None and len(match.slots) < lease.ready:
            # A damaged slot was dropped: a slower tier may have the chunk.
            lease = self._look_up(tracked, first, last)
            match = self._promise(tracked, lease, computed)
        if match is None:
            self._fetching[request.request_id] = lease
            return None
        self._fetching.pop(request.request_id, None)
        tokens = min((first + len(match.slots)) * self._chunk_tokens, usable) - computed
        if tokens <= 0:
            self._let_go(tracked)
            return 0
        tracked.match = match
        if self._events is not None:
            self._events.learn(request, tracked.keys, first, len(match.slots))
        return tokens

    def allocated(self, request: Request, blocks: Sequence[int], external: int) -> None:
        """The request has `blocks` and starts; `external` tokens of its KV are to be loaded into them."""
        self._running.add(request.request_id)
        tracked = self._tracked.get(request.request_id)
        if tracked is None:
            return
        match = tracked.match
        sources = self._sources(tracked, external)
        if not tracked.sources:
            tracked.sources = sources
            self.totals.admitted(request.request_id, sources)
        if external and match is not None:
            self._allocated.append((tracked, self._transfers(match, blocks, external), match.patience))
            tracked.match = None
        else:
            self._let_go(tracked)

    def plan(self, output: SchedulerOutput) -> StepPlan:
        """All orders for the step that vLLM has just scheduled."""
        self._step += 1
        flight = self._in_flight[self._step] = InFlight()
        plan = StepPlan(self._step, self.store.arena.name)
        for starting, transfers, patience in self._allocated:
            plan.loads += transfers
            flight.loads += len(transfers)
            if (lease := starting.hand_over()) is not None:
                flight.leases.append(lease)
                if patience:
                    # Without polling: whoever waits must not take the GIL from the threads that fill slots.
                    lease.settled.wait(patience)
                    starting.judge(self.store.economy, lease)
        self._allocated = []
        self._running = set(output.num_scheduled_tokens)
        state = output.kv_connector_block_state
        prompts = 0
        for request_id, scheduled in output.num_scheduled_tokens.items():
            if (tracked := self._tracked.get(request_id)) is None:
                continue
            flight.requests.append(tracked)
            drafts = len(output.scheduled_spec_decode_tokens.get(request_id, ()))
            before = tracked.request.num_computed_tokens
            certain = before + scheduled - drafts
            if scheduled - drafts >= SHORT_STEP:
                prompts += 1
                flight.prefill = (scheduled, before) if prompts == 1 else None
            if save := self._plan_saves(tracked, certain, state.resolve_block_ids, plan):
                flight.saves.append(save)
        if 0 < output.total_num_scheduled_tokens < SHORT_STEP:
            flight.prefill = (output.total_num_scheduled_tokens, 0)
        if not output.total_num_scheduled_tokens and self._fetching:
            next(iter(self._fetching.values())).settled.wait(IDLE_WAIT)
        return plan

    def reported(self, report: StepReport, failed_blocks: set[int]) -> None:
        """The worker is through with some steps; `failed_blocks` were promised and hold no valid KV."""
        self.totals.add(report)
        for step in report.steps:
            flight = self._in_flight.pop(step, None)
            if flight is None:
                continue
            for lease in flight.leases:
                lease.release()
            unsaved = set(report.unsaved.get(step, ()))
            for save in flight.saves:
                written = [False] * len(save.reservation.slots)
                for position, chunk in enumerate(save.chunks, save.position):
                    written[chunk] = position not in unsaved
                save.reservation.commit(written)
            self._measure(flight, report)
            if failed_blocks:
                self._forget_failed(flight.requests, failed_blocks)

    def finished(self, request: Request, blocks: Sequence[int]) -> dict[str, int]:
        """The request ended, in whatever way; its prompt tokens by source, empty if never admitted."""
        self._running.discard(request.request_id)
        tracked = self._tracked.pop(request.request_id, None)
        if tracked is None:
            return {}
        tracked.last_blocks = list(blocks)
        self._let_go(tracked)
        self.store.touch(tracked.keys)
        return tracked.sources

    def reset(self) -> bool:
        """The engine was told to forget cached KV, as after a change of its weights while it runs.

        What is in the store is still right for the weights on disk, but nothing tells whether those are the
        engine's: from here on it uses a namespace of its own, and running requests none.
        """
        for tracked in self._tracked.values():
            self._let_go(tracked)
        self._tracked.clear()
        self._namespaces.part()
        return True

    def take_events(self) -> Iterator[KVCacheEvent]:
        """What tiers gained and lost since the last call, for vLLM's event stream."""
        events = self.store.take_events()
        return self._events.translate(events) if self._events is not None else iter(())

    def close(self) -> None:
        for flight in self._in_flight.values():
            for save in flight.saves:
                save.reservation.abort()
            for lease in flight.leases:
                lease.release()
        for tracked in self._tracked.values():
            self._let_go(tracked)
        self.store.close()

    def _look_up(self, tracked: Tracked, first: int, last: int) -> Lease:
        request_id = tracked.request.request_id
        lease = self.store.lookup(tracked.keys_until(last)[first:last], owner=request_id)
        tracked.hold(lease, first)
        if lease.ready < last - first:
            self._fetch(tracked, lease, first)
        return lease

    def _fetch(self, tracked: Tracked, lease: Lease, first: int) -> None:
        """Bring from slower tiers what pays, for as long as computing it would take.

        Chunks that this process knows nothing of are asked for: another worker may have saved them.
        """
        tokens = tracked.request.num_tokens
        decision = self.store.decide(lease, tokens)
        pays = max(decision.chunks, lease.ready)
        asks = pays == lease.known < len(lease.keys)
        if pays > lease.ready or asks:
            tracked.decision = decision
            context = (first + lease.ready) * self._chunk_tokens
            computing = self.store.economy.prefill_seconds(tokens - context, context)
            patience = UNKNOWN_SECONDS if computing is None else max(LEAST_PATIENCE, computing)
            tracked.patience = min(patience, self.store.settings.fetch_seconds)
            tracked.fetch_began = time.monotonic()
            chunks = None if asks else pays
            self.store.fetch(lease, seconds=tracked.patience, chunks=chunks, tokens=tokens, probe=asks)
        self.store.try_out(lease, decision)

    def _promise(self, tracked: Tracked, lease: Lease, computed: int) -> Match | None:
        """What of the lease the request may count on; None: not known yet."""
        if lease.done:
            if tracked.match is not None and not tracked.match.patience:
                return replace(tracked.match, computed=computed)
            tracked.judge(self.store.economy, lease)
            slots = self._verified(lease)
            return Match(computed, tracked.first, slots, lease.sources[: len(slots)])
        patience = min(self._ahead(tracked.decision), tracked.patience)
        if not patience:
            return None
        slots = self._verified(lease)
        tiers = lease.sources[: len(slots)]
        coming = self.store.coming(lease, len(slots))
        slots += [ref for ref, _ in coming]
        tiers += [tier for _, tier in coming]
        return Match(computed, tracked.first, slots, tiers, patience) if coming else None

    def _ahead(self, decision: Decision | None) -> float:
        """Seconds for which a step may wait for what was decided on, 0 if it has to be there before."""
        if decision is None or not self._recomputes or self._running:
            return 0.0
        expected = decision.load_seconds
        return max(LEAST_PATIENCE, AHEAD_FACTOR * expected) if 0 < expected <= AHEAD_SECONDS else 0.0

    def _verified(self, lease: Lease) -> list[SlotRef]:
        """The leading slots whose bytes are those that were saved. Beyond the first that is not all is a
        miss."""
        sound = self.store.verified(lease)
        self.totals.damaged_slots += sound < lease.ready
        return lease.slots(0, sound)

    def _transfers(self, match: Match, blocks: Sequence[int], external: int) -> list[Transfer]:
        begin, end = match.computed // self._block_tokens, (match.computed + external) // self._block_tokens
        if self._chunk_blocks == 1:
            slots = match.slots[begin - match.first : end - match.first]
            return [Transfer(slot, (block,)) for slot, block in zip(slots, blocks[begin:end], strict=True)]
        transfers: list[Transfer] = []
        for number, slot in enumerate(match.slots, match.first):
            start = number * self._chunk_blocks
            low, high = max(begin, start), min(end, start + self._chunk_blocks)
            if low < high:
                transfers.append(Transfer(slot, tuple(blocks[low:high]), low - start))
        return transfers

    def _sources(self, tracked: Tracked, external: int) -> dict[str, int]:
        sources = {ENGINE: tracked.local}
        if external and tracked.match is not None:
            begin, end = tracked.local, tracked.local + external
            start = tracked.first * self._chunk_tokens
            for tier, run in groupby(tracked.match.tiers):
                stop = start + len(list(run)) * self._chunk_tokens
                sources[tier] = sources.get(tier, 0) + max(0, min(end, stop) - max(begin, start))
                start = stop
        sources[COMPUTED] = tracked.request.num_prompt_tokens - sum(sources.values())
        return sources

    def _plan_saves(
        self,
        tracked: Tracked,
        certain: int,
        blocks_of: Callable[[str], tuple[list[int], ...]],
        plan: StepPlan,
    ) -> Save | None:
        """Order the saving of chunks that are full once the step has run. `certain`: tokens that then have KV
        whatever becomes of drafts."""
        request = tracked.request
        until = request.num_tokens if self._save_decoded else request.num_prompt_tokens
        chunks = min(certain, until) // self._chunk_tokens
        start = tracked.considered
        if chunks <= start:
            return None
        tracked.considered = chunks
        reservation = self.store.reserve(tracked.keys_until(chunks)[start:chunks], first=start)
        save = Save(reservation, [], len(plan.saves))
        table: list[int] = []
        for number, slot in enumerate(reservation.slots):
            if slot is not None:
                table = table or blocks_of(request.request_id)[0]
                begin = (start + number) * self._chunk_blocks
                plan.saves.append(Transfer(slot, tuple(table[begin : begin + self._chunk_blocks])))
                save.chunks.append(number)
        if not save.chunks:
            reservation.abort()
            return None
        if self._events is not None:
            self._events.learn(request, tracked.keys, start, chunks - start)
        return save

    def _forget_failed(self, requests: Iterable[Tracked], failed: set[int]) -> None:
        """Take the blocks of a failed load, and all that were computed on top of them, out of the engine's
        prefix cache.

        vLLM recomputes the requests that it still runs, but leaves the blocks under their hashes meanwhile:
        an abort or a preemption before that would hand them to whoever asks next.
        """
        if self._engine_cache is None:
            return
        evicted = set(failed)
        for tracked in requests:
            table = tracked.last_blocks or self._engine_cache.get_block_ids(tracked.request.request_id)[0]
            at = next((number for number, block in enumerate(table) if block in failed), None)
            if at is not None:
                evicted.update(table[at:])
                tracked.considered = min(tracked.considered, at // self._chunk_blocks)
                tracked.computed_after_all(at * self._block_tokens)
        self._engine_cache.evict_blocks(evicted)

    def _measure(self, flight: InFlight, report: StepReport) -> None:
        """Teach the store what computing and copying take here; several steps at once teach nothing."""
        if len(report.steps) != 1:
            return
        if flight.prefill is not None:
            self.store.economy.observe_prefill(*flight.prefill, report.forward_seconds)
        if flight.loads:
            self.store.economy.observe_load(MEMORY, flight.loads, report.loaded_bytes, report.load_seconds)

    def _let_go(self, tracked: Tracked) -> None:
        self._fetching.pop(tracked.request.request_id, None)
        tracked.let_go()
