"""The connector's half beside the model: probes the pages, then copies between pages and arena slots.

It decides nothing. Every copy is between memory and memory, so it is done in the step that asks for it:
blocks never have to outlive their request, and no transfer is in flight while the scheduler frees, preempts
or reuses them. Anything that goes wrong here is reported, never raised: the engine recomputes what was not
loaded, the store forgets what was not saved.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cache.arena import Segment
from cache.layout import KVLayout
from engine_adapter.vllm.pages import EnginePages, UnknownPages
from engine_adapter.vllm.plan import StepPlan, StepReport, Transfer, WorkerHello
from engine_adapter.vllm.probe import probe_layout

if TYPE_CHECKING:
    import torch

logger = logging.getLogger("vllm.sluice")


class WorkerSide:
    """One per engine worker; all calls come from the thread that runs the model."""

    def __init__(self, attention_layers: Mapping[str, Any]) -> None:
        self._attention_layers = attention_layers
        self._pages: EnginePages | None = None
        self._layout: KVLayout | None = None
        self._refusal = "the engine has not handed over its KV cache"
        self._segment: Segment | None = None
        self._failed: set[int] = set()
        self._report: StepReport | None = None
        self._begun = 0.0

    def register(self, kv_caches: Mapping[str, torch.Tensor]) -> None:
        """Look at the engine's pages; an unknown layout leaves this half without any."""
        try:
            pages = EnginePages.of(kv_caches)
            self._layout = probe_layout(kv_caches, self._attention_layers, pages)
        except UnknownPages as error:
            self._refusal = str(error)
            return
        self._pages = pages
        self._refusal = ""

    def hello(self) -> WorkerHello:
        """For the scheduler's half, once after `register`."""
        return WorkerHello(self._layout, self._refusal)

    def begin(self) -> None:
        """A step starts."""
        self._begun = time.perf_counter()

    def load(self, plan: StepPlan) -> None:
        """Copy slots into pages before the model runs. Blocks left unfilled: `take_failed_blocks`."""
        report = self._report_of(plan)
        if not plan.loads:
            return
        begun = time.perf_counter()
        try:
            segment = self._map(plan)
            loads = plan.loads
            while loads:
                filled = segment.sealed_prefix([transfer.slot for transfer in loads])
                self._copy_in(segment, loads[:filled])
                if not filled:
                    self._failed.update(loads[0].blocks)
                loads = loads[filled or 1 :]
        except (OSError, ValueError, IndexError):
            logger.exception("sluice-kv: a load failed; its tokens are computed instead")
            self._failed.update(block for transfer in plan.loads for block in transfer.blocks)
        self._blank(self._failed)
        report.load_seconds += time.perf_counter() - begun
        report.loaded_bytes += self._bytes(plan.loads)
        report.failed_blocks += len(self._failed)

    def save(self, plan: StepPlan) -> None:
        """Copy pages that this step completed into their slots, after the model ran."""
        report = self._report_of(plan)
        report.forward_seconds += time.perf_counter() - self._begun - report.load_seconds
        if not plan.saves:
            return
        if self._failed:
            # What was computed on top of pages that were not filled is as wrong as they are.
            report.unsaved[plan.step] = list(range(len(plan.saves)))
            return
        begun = time.perf_counter()
        unsaved = list(range(len(plan.saves)))
        try:
            segment = self._map(plan)
            unsaved = [number for number in unsaved if not self._copy_out(segment, plan.saves[number])]
        except (OSError, ValueError, IndexError):
            logger.exception("sluice-kv: chunks could not be saved")
        if unsaved:
            report.unsaved[plan.step] = unsaved
        report.save_seconds += time.perf_counter() - begun
        report.saved_bytes += self._bytes(plan.saves)

    def take_failed_blocks(self) -> set[int]:
        """Blocks of this step's loads that hold no valid KV."""
        failed, self._failed = self._failed, set()
        return failed

    def take_report(self) -> StepReport | None:
        report, self._report = self._report, None
        return report

    def close(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _report_of(self, plan: StepPlan) -> StepReport:
        if self._report is None:
            self._report = StepReport([plan.step])
        elif plan.step not in self._report.steps:
            self._report.steps.append(plan.step)
        return self._report

    def _bytes(self, transfers: list[Transfer]) -> int:
        block = self._layout.block_bytes if self._layout is not None else 0
        return block * sum(len(transfer.blocks) for transfer in transfers)

    def _copy_in(self, segment: Segment, loads: Sequence[Transfer]) -> None:
        """Copy slots that are sealed, with one strided copy for a run of them."""
        for run in _runs(loads, self._layout.block_bytes if self._layout is not None else 0):
            pages, chunk = self._both(segment, run[0])
            if len(run) == 1:
                for number, block in enumerate(run[0].blocks, run[0].first):
                    pages.write(block, chunk[:, number])
                continue
            slot, (block,) = run[0].slot, run[0].blocks
            chunks = segment.run(slot, run[1].slot.offset - slot.offset, len(run))
            pages.write_run(block, run[1].blocks[0] - block, chunks.reshape(len(run), len(chunk), -1))
        # Checked last: a copy counts only if the slot was ours, and complete, until its end.
        if segment.sealed_prefix([transfer.slot for transfer in loads]) < len(loads):
            for transfer in loads:
                if segment.sealed(transfer.slot) is None:
                    self._failed.update(transfer.blocks)

    def _blank(self, blocks: set[int]) -> None:
        """Leave numbers in pages that were not filled.

        Attention reads whole blocks and gives what is beyond the sequence no weight, but no weight times NaN
        is NaN: bytes that are no numbers would spoil whoever has the block next, until it is full.
        """
        if self._pages is not None and blocks:
            nothing = np.zeros((len(self._pages.layers), self._pages.page_bytes), dtype=np.uint8)
            for block in blocks:
                self._pages.write(block, nothing)

    def _copy_out(self, segment: Segment, transfer: Transfer) -> bool:
        if not segment.current(transfer.slot):
            return False
        pages, chunk = self._both(segment, transfer)
        for number, block in enumerate(transfer.blocks, transfer.first):
            pages.read(block, chunk[:, number])
        segment.seal(transfer.slot)
        return True

    def _both(self, segment: Segment, transfer: Transfer) -> tuple[EnginePages, Any]:
        """The engine's pages, and the slot as [layers, blocks, page_bytes]."""
        pages = self._pages
        if pages is None:
            raise ValueError(f"a transfer was planned for an engine without known pages: {self._refusal}")
        return pages, segment.memory(transfer.slot).reshape(len(pages.layers), -1, pages.page_bytes)

    def _map(self, plan: StepPlan) -> Segment:
        if self._segment is None or self._segment.name != plan.arena:
            self.close()
            self._segment = Segment.attach(plan.arena)
        return self._segment


def _runs(loads: Sequence[Transfer], block_bytes: int) -> Iterator[Sequence[Transfer]]:
    """Parts in which slots that hold one block each lie at equal distances, and their blocks as well."""
    begin = 0
    distances: tuple[int, int] | None = None
    for end in range(1, len(loads)):
        one, other = loads[end - 1], loads[end]
        found = None
        if one.slot.nbytes == other.slot.nbytes == block_bytes:
            found = other.slot.offset - one.slot.offset, other.blocks[0] - one.blocks[0]
        if found is None or (distances is not None and found != distances):
            yield loads[begin:end]
            begin, distances = end, None
        else:
            distances = found
    if loads:
        yield loads[begin:]
