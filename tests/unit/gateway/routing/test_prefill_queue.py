from __future__ import annotations

import pytest

from gateway.routing.estimate import PrefillRates, Work
from gateway.routing.prefill_queue import PrefillQueue


class FixedRate(PrefillRates):
    """One second per thousand bytes."""

    def __init__(self) -> None:
        super().__init__(0.001)
        self.overhead, self.by_byte, self.by_area = 0.0, 0.001, 0.0


def test_the_queue_is_the_work_ahead_less_what_has_passed() -> None:
    queue, model = PrefillQueue(), FixedRate()
    assert queue.seconds(model, 1.0, 5.0) == 0.0
    queue.add(1, Work.of(1_000, 0, True), 10.0)
    queue.add(2, Work.of(2_000, 0, True), 10.5)
    assert queue.seconds(model, 1.0, 10.5) == pytest.approx(2.5)
    assert queue.done(1, 11.0) == pytest.approx(1.0)
    assert queue.seconds(model, 1.0, 11.5) == pytest.approx(1.5)
    assert queue.done(2, 13.5) == pytest.approx(2.5)
    assert queue.seconds(model, 1.0, 13.5) == 0.0


def test_a_late_prefill_looks_ever_worse() -> None:
    queue, model = PrefillQueue(), FixedRate()
    queue.add(1, Work.of(1_000, 0, True), 0.0)
    at = [queue.seconds(model, 1.0, now) for now in (0.9, 1.0, 2.0, 10.0)]
    assert at == pytest.approx([0.1, 0.0, 0.25, 2.25])


def test_a_cancelled_request_behind_the_first_does_not_restart_the_first() -> None:
    queue, model = PrefillQueue(), FixedRate()
    queue.add(1, Work.of(1_000, 0, True), 0.0)
    queue.add(2, Work.of(1_000, 0, True), 0.0)
    queue.cancel(2, 0.5)
    assert queue.seconds(model, 1.0, 0.5) == pytest.approx(0.5)
    queue.cancel(1, 0.6)
    assert (len(queue), queue.new_bytes, queue.seconds(model, 1.0, 0.6)) == (0, 0, 0.0)


def test_a_prefill_whose_end_is_not_seen_leaves_when_its_time_is_over() -> None:
    queue, model = PrefillQueue(), FixedRate()
    queue.add(1, Work.of(1_000, 0, False), 0.0)
    queue.add(2, Work.of(1_000, 0, True), 0.0)
    assert queue.seconds(model, 1.0, 1.5) == pytest.approx(0.5)
    assert len(queue) == 1
    assert queue.done(1, 9.0) is None


def test_sums_are_those_of_what_is_queued_whoever_leaves() -> None:
    queue, model = PrefillQueue(), FixedRate()
    for key in range(5):
        queue.add(key, Work.of(1_000 * (key + 1), 0, True), 0.0)
    for key in (3, 0, 4):
        queue.done(key, 0.0)
    assert (len(queue), queue.new_bytes, queue.busy) == (2, 5_000, True)
    assert queue.seconds(model, 1.0, 0.0) == pytest.approx(5.0)
    queue.cancel(2, 0.0)
    queue.cancel(2, 0.0)
    queue.done(1, 0.0)
    assert (len(queue), queue.new_bytes, queue.busy) == (0, 0, False)


def test_a_queue_is_busy_while_others_have_work_there() -> None:
    queue = PrefillQueue()
    queue.observe_others(until=2.0)
    queue.add(1, Work.of(1_000, 0, True), 0.0)
    queue.done(1, 1.0)
    assert queue.busy
    queue.add(2, Work.of(1_000, 0, True), 1.5)
    queue.done(2, 2.5)
    assert not queue.busy


def test_what_is_queued_takes_as_long_as_the_latest_rates_say() -> None:
    queue, model = PrefillQueue(), PrefillRates(0.001)
    work = Work.of(10_000, 0, True)
    queue.add(1, work, 0.0)
    queue.add(2, work, 0.0)
    before = queue.seconds(model, 1.0, 0.0)
    assert before == pytest.approx(2 * model.of(work))
    assert queue.seconds(model, 2.0, 0.0) == pytest.approx(2 * before)
    for _ in range(20):
        model.observe(work, 0.5)
    assert queue.seconds(model, 1.0, 0.0) == pytest.approx(2 * model.of(work))
    assert queue.seconds(model, 1.0, 0.0) < before / 5
