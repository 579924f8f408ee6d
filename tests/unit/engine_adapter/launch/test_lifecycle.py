"""The state machine alone: events and times in, states and actions out."""

from __future__ import annotations

import math
import signal

import pytest

from engine_adapter.launch.lifecycle import Cause, Kill, Lifecycle, Spawn
from engine_adapter.launch.settings import SupervisionSettings

SETTINGS = SupervisionSettings(
    start_timeout=100.0,
    unresponsive_seconds=60.0,
    backoff_initial=1.0,
    backoff_max=5.0,
    give_up_after=4,
    stable_seconds=50.0,
    stop_grace=10.0,
)
CRASH = Cause("it ended with status 1")


def ready_life(at: float = 0.0) -> Lifecycle:
    life = Lifecycle(SETTINGS)
    assert life.start(at) == [Spawn()]
    life.answered(at + 5.0)
    assert life.state == "ready"
    return life


def test_start_makes_a_process_once() -> None:
    life = Lifecycle(SETTINGS)
    assert life.start(0.0) == [Spawn()]
    assert life.state == "starting"
    assert life.start(1.0) == []


def test_a_process_that_is_not_probed_is_ready_at_once() -> None:
    life = Lifecycle(SETTINGS, probed=False)
    life.start(0.0)
    assert life.state == "ready"
    assert life.deadline == math.inf
    assert life.tick(1e9) == []


def test_back_off_doubles_up_to_its_bound_and_then_the_worker_is_given_up() -> None:
    life = Lifecycle(SETTINGS)
    life.start(0.0)
    now, pauses = 1.0, []
    while life.state != "failed":
        life.exited(now, CRASH)
        if life.state == "backoff":
            pauses.append(life.deadline - now)
            assert life.tick(life.deadline - 0.01) == []
            now = life.deadline
            assert life.tick(now) == [Spawn()]
    assert pauses == [1.0, 2.0, 4.0]
    assert life.generation == 3
    assert "given up after 4 failures in a row" in life.message
    assert CRASH.text in life.message
    assert life.over
    assert life.tick(1e9) == []


def test_the_pause_is_bounded() -> None:
    life = Lifecycle(SupervisionSettings(backoff_initial=4.0, backoff_max=5.0))
    life.start(0.0)
    life.exited(1.0, CRASH)
    life.tick(life.deadline)
    life.exited(10.0, CRASH)
    assert life.deadline == 15.0


def test_failures_before_a_long_good_time_are_forgotten() -> None:
    life = ready_life()
    life.exited(6.0, CRASH)
    life.tick(life.deadline)
    life.answered(20.0)
    life.exited(20.0 + SETTINGS.stable_seconds, CRASH)
    assert life.failures == 1
    assert "failure 1" in life.message


def test_a_cause_that_cannot_heal_gives_up_at_once() -> None:
    life = Lifecycle(SETTINGS)
    life.start(0.0)
    life.exited(1.0, Cause("there is no model at that path", permanent=True))
    assert life.state == "failed"
    assert life.message == "there is no model at that path"


def test_after_a_taken_port_the_next_start_uses_others() -> None:
    life = Lifecycle(SETTINGS)
    life.start(0.0)
    life.exited(1.0, Cause("its port was taken", port_taken=True))
    assert life.tick(life.deadline) == [Spawn(other_ports=True)]
    life.exited(3.0, CRASH)
    assert life.tick(life.deadline) == [Spawn()]


def test_a_start_that_takes_too_long_is_killed_and_counts_as_a_failure() -> None:
    life = Lifecycle(SETTINGS)
    life.start(0.0)
    assert life.tick(99.9) == []
    assert life.tick(100.0) == [Kill(signal.SIGKILL)]
    assert life.tick(101.0) == []
    life.exited(102.0, Cause("it was killed"))
    assert life.state == "backoff"
    assert "not ready 100 s after its start" in life.message


def test_a_silent_worker_is_killed_once_and_restarted() -> None:
    life = ready_life()
    life.answered(30.0)
    assert life.deadline == 90.0
    assert life.tick(90.0) == [Kill(signal.SIGKILL)]
    assert life.tick(91.0) == []
    life.exited(92.0, Cause("it was killed"))
    assert "answered no health probe for 60 s" in life.message
    assert life.tick(life.deadline) == [Spawn()]


@pytest.mark.parametrize("answer", [False, True])
def test_stop_is_first_polite_then_firm(answer: bool) -> None:
    life = Lifecycle(SETTINGS)
    life.start(0.0)
    if answer:
        life.answered(1.0)
    assert life.stop(5.0) == [Kill(signal.SIGTERM)]
    assert life.state == "draining"
    assert life.stop(6.0) == []
    assert life.tick(14.9) == []
    assert life.tick(15.0) == [Kill(signal.SIGKILL)]
    life.exited(15.1, CRASH)
    assert life.state == "stopped"
    assert life.tick(1e9) == []


def test_stop_during_back_off_needs_no_signal() -> None:
    life = ready_life()
    life.exited(6.0, CRASH)
    assert life.stop(6.5) == []
    assert life.state == "stopped"
    assert life.tick(1e9) == []


def test_a_retired_worker_runs_on_but_is_not_restarted() -> None:
    life = ready_life()
    life.retire()
    assert life.state == "ready"
    assert life.exited(10.0, CRASH) == []
    assert life.state == "stopped"
    assert life.tick(1e9) == []


def test_a_worker_that_was_given_up_keeps_its_reason_to_the_end() -> None:
    life = Lifecycle(SETTINGS)
    life.start(0.0)
    life.exited(1.0, Cause("no model", permanent=True))
    life.retire()
    assert life.stop(2.0) == []
    assert (life.state, life.message) == ("failed", "no model")


def test_kill_is_immediate() -> None:
    life = ready_life()
    assert life.kill() == [Kill(signal.SIGKILL)]
    life.exited(7.0, CRASH)
    assert life.state == "stopped"


def test_an_exit_that_belongs_to_nothing_is_ignored() -> None:
    life = Lifecycle(SETTINGS)
    assert life.exited(0.0, CRASH) == []
    assert life.state == "stopped"
