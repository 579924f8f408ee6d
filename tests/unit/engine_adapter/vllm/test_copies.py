"""Copies of many slots into pages, however slots and blocks lie."""

from __future__ import annotations

import numpy as np
import pytest

from cache.arena import Arena, SlotRef
from engine_adapter.vllm.pages import EnginePages
from engine_adapter.vllm.plan import StepPlan, Transfer
from engine_adapter.vllm.worker_side import WorkerSide
from tests.unit.engine_adapter.vllm.engines import LAYOUT

BLOCKS = {
    "ascending": [5, 6, 7, 8, 9, 10],
    "descending": [5, 4, 3, 2, 1, 0],
    "every other": [1, 3, 5, 7, 9, 11],
    "two runs": [1, 2, 3, 20, 21, 22],
    "no order": [9, 2, 30, 4, 17, 5],
}


class Copies:
    """An arena, an engine's pages and the half that copies from one to the other."""

    def __init__(self, *, stacked: bool = True) -> None:
        self.arena = Arena(64 * (LAYOUT.block_bytes + 64), LAYOUT.block_bytes)
        self.pages = np.zeros((LAYOUT.layers, 64, LAYOUT.page_bytes), np.uint8)
        self.worker = WorkerSide({})
        self.worker._pages = EnginePages(["a", "b"], list(self.pages), self.pages if stacked else None)
        self.worker._layout = LAYOUT

    def fill(self, ref: SlotRef, value: int) -> None:
        self.arena.memory(ref)[:] = value
        self.arena.seal(ref)

    def load(self, slots: list[SlotRef], blocks: list[int]) -> set[int]:
        transfers = [Transfer(slot, (block,)) for slot, block in zip(slots, blocks, strict=True)]
        self.worker.load(StepPlan(1, self.arena.name, transfers))
        return self.worker.take_failed_blocks()

    def in_pages(self, block: int) -> set[int]:
        return set(np.unique(self.pages[:, block]).tolist())

    def close(self) -> None:
        self.worker.close()
        self.arena.close()


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("slots_reversed", [True, False])
@pytest.mark.parametrize("order", BLOCKS)
def test_every_slot_gets_into_its_block(order: str, slots_reversed: bool, stacked: bool) -> None:
    copies, blocks = Copies(stacked=stacked), BLOCKS[order]
    slots = copies.arena.allocate_whole(len(blocks))
    slots = slots[::-1] if slots_reversed else slots
    for number, slot in enumerate(slots):
        copies.fill(slot, number + 1)
    assert copies.load(slots, blocks) == set()
    assert [copies.in_pages(block) for block in blocks] == [{number + 1} for number in range(len(blocks))]
    assert not copies.pages[:, sorted(set(range(64)) - set(blocks))].any(), "nothing else was touched"
    copies.close()


@pytest.mark.parametrize("bad", [0, 3, 5])
def test_slots_that_are_not_complete_leave_blank_blocks(bad: int) -> None:
    copies, blocks = Copies(), BLOCKS["ascending"]
    slots = copies.arena.allocate_whole(len(blocks))
    for number, slot in enumerate(slots):
        copies.fill(slot, number + 1)
    copies.arena.unseal(slots[bad])
    assert copies.load(slots, blocks) == {blocks[bad]}
    expected = [{0} if number == bad else {number + 1} for number in range(len(blocks))]
    assert [copies.in_pages(block) for block in blocks] == expected
    copies.close()


def test_slots_beyond_the_arena_fail_instead_of_being_read() -> None:
    copies = Copies()
    (slot,) = copies.arena.allocate_whole(1)
    with pytest.raises(ValueError, match="beyond the end"):
        copies.arena.run(slot, LAYOUT.block_bytes + 64, 1000)
    copies.close()
