"""What the two halves of the connector tell each other, once per engine step.

Plain values, which `connector` wraps for the way: with a process of its own for the worker, vLLM pickles
them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from cache.arena import SlotRef
from cache.layout import KVLayout


class Transfer(NamedTuple):
    """One chunk in the arena and the engine blocks it belongs to: `blocks[i]` is its block `first + i`."""

    slot: SlotRef
    blocks: tuple[int, ...]
    first: int = 0


@dataclass(slots=True)
class StepPlan:
    """The scheduler's orders for one step."""

    step: int
    arena: str = ""
    """Name of the shared segment; empty while there is none."""
    loads: list[Transfer] = field(default_factory=list)
    saves: list[Transfer] = field(default_factory=list)


@dataclass(slots=True)
class StepReport:
    """What became of the plans of some steps."""

    steps: list[int]
    unsaved: dict[int, list[int]] = field(default_factory=dict)
    """Step -> positions in its `saves` that were not written."""
    forward_seconds: float = 0.0
    """From the step's start to its last layer, without loading."""
    load_seconds: float = 0.0
    save_seconds: float = 0.0
    loaded_bytes: int = 0
    saved_bytes: int = 0
    failed_blocks: int = 0

    def merged(self, other: StepReport) -> StepReport:
        """The reports of several steps, or workers, as one."""
        unsaved = {step: list(positions) for step, positions in self.unsaved.items()}
        for step, positions in other.unsaved.items():
            unsaved[step] = sorted({*unsaved.get(step, ()), *positions})
        return StepReport(
            [*self.steps, *(step for step in other.steps if step not in self.steps)],
            unsaved,
            max(self.forward_seconds, other.forward_seconds),
            self.load_seconds + other.load_seconds,
            self.save_seconds + other.save_seconds,
            self.loaded_bytes + other.loaded_bytes,
            self.saved_bytes + other.saved_bytes,
            self.failed_blocks + other.failed_blocks,
        )


@dataclass(frozen=True, slots=True)
class WorkerHello:
    """What the worker found when the engine handed it the KV cache: a layout, or why there is none."""

    layout: KVLayout | None
    refusal: str = ""
