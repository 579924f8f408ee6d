"""Virtual time: what happens when, and nothing in between."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any


class Clock:
    """Runs actions in the order of their times (seconds), at equal times in the order of their planning."""

    def __init__(self) -> None:
        self.now = 0.0
        self._plan: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, time: float, action: Callable[..., None], *arguments: Any) -> None:
        """Run `action` at `time`, or now if that has passed."""
        self._count += 1
        heapq.heappush(self._plan, (max(time, self.now), self._count, action, arguments))

    def run(self, until: float, finished: Callable[[], bool]) -> None:
        """Run until `finished`, or nothing is planned before `until`."""
        while self._plan and not finished():
            time, _, action, arguments = heapq.heappop(self._plan)
            if time > until:
                break
            self.now = time
            action(*arguments)
