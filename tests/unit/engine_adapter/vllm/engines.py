"""A scheduler and a worker without vLLM: enough of both for the two halves of the connector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.keys import Namespace
from cache.lane import Lane, MakeLane
from cache.layout import KVLayout
from cache.settings import MemorySettings, StoreSettings
from cache.store import Store
from cache.tiers.build import TierPlan
from engine_adapter.vllm.namespace import Namespaces
from engine_adapter.vllm.pages import EnginePages
from engine_adapter.vllm.scheduler_side import SchedulerSide
from engine_adapter.vllm.worker_side import WorkerSide

BLOCK = 4
LAYOUT = KVLayout(2, 1, 8, "float32", BLOCK, "plain")


def request(
    name: str, tokens: list[int], salt: str | None = None, images: list[Any] | None = None
) -> SimpleNamespace:
    """What the connector reads of vLLM's Request."""
    return SimpleNamespace(
        request_id=name,
        prompt_token_ids=tokens,
        prompt_embeds=None,
        resumable=False,
        sampling_params=object(),
        all_token_ids=list(tokens),
        num_prompt_tokens=len(tokens),
        num_tokens=len(tokens),
        num_computed_tokens=0,
        skip_reading_prefix_cache=False,
        cache_salt=salt,
        lora_request=None,
        mm_features=images or [],
        block_hashes=[],
    )


@dataclass
class Harness:
    """Both halves over one set of pages, and what vLLM would do between them."""

    chunk_blocks: int = 1
    save_decoded: bool = False
    memory_bytes: int = 1 << 20
    tiers: Sequence[TierPlan] = ()
    make_lane: MakeLane = Lane
    pages: npt.NDArray[np.uint8] = field(init=False)
    evicted: set[int] = field(default_factory=set)
    tables: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = StoreSettings(
            memory=MemorySettings(bytes=self.memory_bytes, prefault=False), chunk_blocks=self.chunk_blocks
        )
        self.store = Store(LAYOUT, settings, tiers=self.tiers, make_lane=self.make_lane)
        engine = Namespace("m", "w", "", "float32", {}, LAYOUT.fingerprint())
        self.scheduler = SchedulerSide(
            self.store,
            Namespaces(engine, self.store.open_namespace, self.store.close_namespace),
            block_tokens=BLOCK,
            chunk_blocks=self.chunk_blocks,
            save_decoded=self.save_decoded,
        )
        self.scheduler.bind_engine_cache(self)
        self.pages = np.zeros((LAYOUT.layers, 64, LAYOUT.page_bytes), np.uint8)
        self.worker = WorkerSide({})
        self.worker._pages = EnginePages(["a", "b"], list(self.pages), self.pages)
        self.worker._layout = LAYOUT
        self._next_block = 1

    def get_block_ids(self, request_id: str) -> tuple[list[int], ...]:
        return (self.tables.get(request_id, []),)

    def evict_blocks(self, block_ids: set[int]) -> None:
        self.evicted |= block_ids

    def admit(self, asked: SimpleNamespace, local: int = 0) -> int | None:
        """vLLM takes a request on whose first `local` tokens it has; how many the store gives, None: wait."""
        if asked.request_id not in self.scheduler._tracked:
            self.scheduler.arrived(asked)
        external = self.scheduler.match(asked, local)
        if external is None:
            return None
        blocks = -(-asked.num_tokens // BLOCK)
        self.tables[asked.request_id] = list(range(self._next_block, self._next_block + blocks))
        self._next_block += blocks
        self.scheduler.allocated(asked, self.tables[asked.request_id], external)
        asked.num_computed_tokens = local + external
        return external

    def step(self, scheduled: dict[str, tuple[SimpleNamespace, int]], drafts: int = 0) -> set[int]:
        """One engine step over requests and how many tokens each computes; blocks that failed to load."""
        for name, (asked, tokens) in scheduled.items():
            while len(self.tables[name]) * BLOCK < asked.num_computed_tokens + tokens:
                self.tables[name].append(self._next_block)
                self._next_block += 1
        output = SimpleNamespace(
            num_scheduled_tokens={name: tokens for name, (_, tokens) in scheduled.items()},
            scheduled_spec_decode_tokens={name: [0] * drafts for name in scheduled} if drafts else {},
            total_num_scheduled_tokens=sum(tokens for _, tokens in scheduled.values()),
            kv_connector_block_state=SimpleNamespace(resolve_block_ids=self.get_block_ids),
        )
        plan = self.scheduler.plan(output)  # type: ignore[arg-type]
        self.worker.begin()
        self.worker.load(plan)
        for name, (asked, tokens) in scheduled.items():
            self._compute(asked, tokens, self.tables[name])
            asked.num_computed_tokens += tokens
        self.worker.save(plan)
        failed = self.worker.take_failed_blocks()
        report = self.worker.take_report()
        assert report is not None
        self.scheduler.reported(report, failed)
        return failed

    def prefill(self, asked: SimpleNamespace, local: int = 0) -> int:
        """Admit and compute a whole prompt; tokens that came from the store."""
        external = self.admit(asked, local)
        assert external is not None
        self.step({asked.request_id: (asked, asked.num_tokens - asked.num_computed_tokens)})
        return external

    def finish(self, asked: SimpleNamespace) -> dict[str, int]:
        return self.scheduler.finished(asked, self.tables.get(asked.request_id, []))

    def content(self, asked: SimpleNamespace, block: int) -> npt.NDArray[np.uint8]:
        """The engine's pages of one block of a request, [layers, page_bytes]."""
        return self.pages[:, self.tables[asked.request_id][block]]

    def close(self) -> None:
        self.scheduler.close()
        self.worker.close()

    def _compute(self, asked: SimpleNamespace, tokens: int, table: list[int]) -> None:
        """Fill pages with what depends on every token so far, as attention does."""
        for position in range(asked.num_computed_tokens, asked.num_computed_tokens + tokens):
            block, place = divmod(position, BLOCK)
            seed = hash(tuple(asked.all_token_ids[: position + 1]))
            width = LAYOUT.page_bytes // BLOCK
            random = np.random.default_rng(seed % (1 << 32))
            content = random.integers(0, 256, (LAYOUT.layers, width), np.uint8)
            self.pages[:, table[block], place * width : (place + 1) * width] = content
