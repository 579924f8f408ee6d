from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.relay.waiting import RoomFull, WaitingRoom

MODELS = ("a", "b")


class Guest:
    def __init__(self, number: int) -> None:
        self.number = number


class RoomMachine(RuleBasedStateMachine):
    """The room against a list that is sorted anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self.room: WaitingRoom[Guest] = WaitingRoom(6)
        self.waiting: list[tuple[int, int, str, Guest]] = []
        self.count = 0

    @rule(model=st.sampled_from(MODELS), priority=st.integers(-1, 1))
    def enter(self, model: str, priority: int) -> None:
        self.count += 1
        guest = Guest(self.count)
        if len(self.waiting) == 6:
            with pytest.raises(RoomFull):
                self.room.enter(guest, model, priority)
        else:
            self.room.enter(guest, model, priority)
            self.waiting.append((-priority, self.count, model, guest))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(entry)
        assert self.room.leave(entry[3])
        assert not self.room.leave(entry[3])

    @rule(models=st.sampled_from([("a",), ("b",), ("a", "b"), ("c",), ()]))
    def take(self, models: tuple[str, ...]) -> None:
        able = sorted((e for e in self.waiting if e[2] in models), key=lambda e: e[:2])
        taken = self.room.next(models)
        if able:
            assert taken is able[0][3]
            self.waiting.remove(able[0])
        else:
            assert taken is None

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.room) == len(self.waiting)
        for model in (*MODELS, "c"):
            assert self.room.waits_for(model) == any(e[2] == model for e in self.waiting)


TestRoom = RoomMachine.TestCase
TestRoom.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_who_never_waited_cannot_leave() -> None:
    assert not WaitingRoom[Guest](1).leave(Guest(0))


def test_guests_that_leave_while_the_first_one_stays_are_forgotten() -> None:
    room: WaitingRoom[Guest] = WaitingRoom(10)
    room.enter(Guest(0), "a", priority=9)
    for number in range(1000):
        guest = Guest(number)
        room.enter(guest, "a", priority=0)
        room.leave(guest)
    assert len(room) == 1
    assert sum(map(len, room.queues.values())) <= 3


def test_a_full_room_takes_nobody() -> None:
    room: WaitingRoom[Guest] = WaitingRoom(0)
    with pytest.raises(RoomFull):
        room.enter(Guest(0), "a", 0)
    assert len(room) == 0
    assert not room.waits_for("a")
