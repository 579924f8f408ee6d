from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from gateway.transport.turns import SLOT, Turns


class Loop:
    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[int], None], int]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, action: Callable[[int], None], slot: int) -> None:
        self.timers.append((at, action, slot))

    def fire(self) -> None:
        at, action, slot = self.timers.pop(0)
        self.now = at
        action(slot)


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def turns(loop: Loop) -> Turns:
    return Turns(cast(Any, loop))


def test_what_is_due_in_one_slot_shares_a_timer(turns: Turns, loop: Loop) -> None:
    woken: list[tuple[str, float]] = []
    for name, due in (("a", 0.0101), ("b", 0.0119), ("c", 0.0121)):
        turns.at(due, lambda at, name=name: woken.append((name, at)))  # type: ignore[misc]
    assert len(loop.timers) == 2
    loop.fire()
    assert [name for name, _ in woken] == ["a", "b"]
    loop.fire()
    assert [name for name, _ in woken] == ["a", "b", "c"]
    assert all(at >= 0.0119 for _, at in woken)


def test_nobody_is_woken_before_what_was_asked_nor_more_than_a_slot_later(turns: Turns, loop: Loop) -> None:
    for step in range(1000):
        due = 0.01 + step * 0.0047 + 1e-15
        told: list[float] = []
        turns.at(due, told.append)
        while loop.timers:
            loop.fire()
        assert due <= told[0] <= due + SLOT + 1e-12


def test_a_slot_that_was_served_is_not_planned_again(turns: Turns, loop: Loop) -> None:
    """Else one who is woken a hair too early and asks again would spin."""
    times: list[float] = []

    def again(at: float) -> None:
        times.append(at)
        if len(times) < 3:
            turns.at(at, again)

    turns.at(0.01, again)
    while loop.timers:
        loop.fire()
    assert times == [pytest.approx(0.010), pytest.approx(0.012), pytest.approx(0.014)]


def test_busy_follows_the_share_of_the_core_and_settles(turns: Turns) -> None:
    spent = 0.0
    for second in range(10):
        turns.sample(spent, float(second))
        spent += 0.3
    assert turns.busy == 0.0
    for second in range(10, 30):
        turns.sample(spent, float(second))
        spent += 0.65
    assert turns.busy == pytest.approx(0.5, abs=0.01)
    for second in range(30, 50):
        turns.sample(spent, float(second))
        spent += 1.0
    assert turns.busy == pytest.approx(1.0, abs=0.01)
    turns.sample(spent, 50.0)
    turns.sample(spent, 50.0)
    assert turns.busy == pytest.approx(1.0, abs=0.01)
