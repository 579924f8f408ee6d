"""When the Eloquent senders of a process are woken: together, and less often while the process is busy."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

SLOT = 0.002
"""Seconds. Wake-ups that are due in the same slot share a timer and a turn of the loop."""
CALM_SHARE, BUSY_SHARE = 0.5, 0.8
"""Share of its core that the loop's thread uses: up to here it is not busy at all, from there on wholly."""


Wake = Callable[[float], None]
"""Told for when it was woken: at least what it had asked for."""


class Turns:
    """One per process. What is planned cannot be taken back: whoever is woken sees whether it matters yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, list[Wake]] = {}
        self._last = 0
        """Number of the last slot that was served: none is served twice."""
        self.busy = 0.0
        """0 to 1; senders then let more tokens share a packet."""
        self._sampled: tuple[float, float] | None = None

    def time(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def at(self, due: float, wake: Wake) -> None:
        """Call `wake` at `due` or up to a slot later."""
        number = max(math.ceil(due / SLOT), self._last + 1)
        if number * SLOT < due:
            number += 1  # the quotient was rounded down
        slot = self._slots.get(number)
        if slot is None:
            self._slots[number] = [wake]
            self._loop.call_at(number * SLOT, self._serve, number)
        else:
            slot.append(wake)

    def sample(self, spent: float, now: float) -> None:
        """Take the CPU seconds that the loop's thread has spent until `now`; once a second or so."""
        if self._sampled is not None and now > self._sampled[1]:
            share = (spent - self._sampled[0]) / (now - self._sampled[1])
            busy = min(max((share - CALM_SHARE) / (BUSY_SHARE - CALM_SHARE), 0.0), 1.0)
            # Fewer packets make it less busy: halfway each time, so that it settles.
            self.busy += (busy - self.busy) / 2
        self._sampled = spent, now

    def _serve(self, number: int) -> None:
        self._last = max(self._last, number)
        for wake in self._slots.pop(number):
            wake(number * SLOT)
