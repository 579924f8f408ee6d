from __future__ import annotations

import itertools
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_adapter.api import WorkerInfo
from gateway.relay.breaker import TRANSITIONS, Breakers, CircuitBreaker, Event, State
from gateway.relay.settings import HealthChecks
from gateway.routing.fleet import Fleet, Worker

SETTINGS = HealthChecks(breaker_failures=3, breaker_open_seconds=5.0, breaker_open_max=15.0)


@pytest.fixture
def worker() -> Worker:
    worker = Worker.from_info(WorkerInfo(id="w0", url="http://127.0.0.1:9000"))
    worker.health = "ready"
    return worker


@pytest.fixture
def breaker(worker: Worker) -> CircuitBreaker:
    return CircuitBreaker(worker, SETTINGS)


def fail(breaker: CircuitBreaker, now: float) -> None:
    breaker.failed(now, breaker.sent())


def opened(breaker: CircuitBreaker, now: float = 0.0) -> CircuitBreaker:
    for _ in range(3):
        fail(breaker, now)
    return breaker


def test_the_table_is_the_whole_life() -> None:
    legal = {("closed", "tripped"), ("open", "cooled"), ("half_open", "tried")}
    legal |= {("trial", event) for event in ("passed", "failed", "abandoned")}
    assert set(TRANSITIONS) == legal
    assert set(TRANSITIONS.values()) == set(get_args(State))
    assert set(itertools.product(get_args(State), get_args(Event))) > legal


def test_consecutive_failures_open_it(breaker: CircuitBreaker, worker: Worker) -> None:
    fail(breaker, 0.0)
    fail(breaker, 0.0)
    breaker.succeeded(breaker.sent())
    fail(breaker, 1.0)
    fail(breaker, 1.0)
    assert worker.accepting
    fail(breaker, 1.0)
    assert (breaker.state, worker.breaker, worker.accepting) == ("open", "open", False)
    assert breaker.opened == 1


def test_a_refused_connection_opens_it_at_once(breaker: CircuitBreaker, worker: Worker) -> None:
    breaker.failed(0.0, breaker.sent(), refused=True)
    assert worker.breaker == "open"


def test_one_trial_and_only_one(breaker: CircuitBreaker, worker: Worker) -> None:
    opened(breaker)
    breaker.tick(4.9)
    assert not worker.accepting
    breaker.tick(5.0)
    assert (worker.breaker, worker.accepting) == ("half_open", True)
    assert breaker.sent()
    assert not worker.accepting
    assert not breaker.sent()
    breaker.tick(100.0)
    assert not worker.accepting


def test_a_good_trial_closes_it_and_forgets_the_pause(breaker: CircuitBreaker, worker: Worker) -> None:
    opened(breaker)
    breaker.tick(5.0)
    breaker.failed(5.0, breaker.sent())
    breaker.tick(15.0)
    breaker.succeeded(breaker.sent())
    assert worker.breaker == "closed"
    opened(breaker, 20.0)
    breaker.tick(25.0)
    assert worker.breaker == "half_open"


def test_failed_trials_double_the_pause_up_to_the_maximum(breaker: CircuitBreaker) -> None:
    opened(breaker)
    now, pauses = 0.0, []
    for _ in range(4):
        start = now
        while breaker.state == "open":
            now += 0.5
            breaker.tick(now)
        pauses.append(now - start)
        breaker.failed(now, breaker.sent())
    assert pauses == [5.0, 10.0, 15.0, 15.0]


def test_a_trial_without_a_verdict_gives_its_place_back(breaker: CircuitBreaker, worker: Worker) -> None:
    opened(breaker)
    breaker.tick(5.0)
    breaker.abandoned(breaker.sent())
    assert worker.breaker == "half_open"
    assert breaker.sent()


def test_answers_from_before_it_opened_are_ignored(breaker: CircuitBreaker, worker: Worker) -> None:
    early = [breaker.sent() for _ in range(5)]
    opened(breaker)
    breaker.succeeded(early[0])
    breaker.failed(1.0, early[1])
    assert worker.breaker == "open"
    breaker.tick(5.0)
    trial = breaker.sent()
    breaker.succeeded(early[2])
    breaker.failed(5.0, early[3])
    breaker.abandoned(early[4])
    assert breaker.state == "trial"
    breaker.succeeded(trial)
    assert worker.breaker == "closed"


def test_the_trial_of_a_former_process_decides_nothing(breaker: CircuitBreaker) -> None:
    opened(breaker)
    breaker.tick(5.0)
    stale = breaker.sent()
    breaker.reset()
    opened(breaker, 6.0)
    breaker.tick(11.0)
    breaker.sent()
    breaker.succeeded(stale)
    breaker.abandoned(stale)
    breaker.failed(12.0, stale)
    assert breaker.state == "trial"


def test_an_active_probe_shortens_the_pause(breaker: CircuitBreaker, worker: Worker) -> None:
    breaker.recovered()
    assert worker.breaker == "closed"
    opened(breaker)
    breaker.recovered()
    assert worker.breaker == "half_open"


def test_breakers_follow_the_fleet() -> None:
    first = WorkerInfo(id="w0", url="http://127.0.0.1:9000")
    fleet = Fleet()
    fleet.update([first])
    breakers = Breakers(fleet, SETTINGS)
    worker = fleet.workers["w0"]
    opened(breakers.of(worker))
    assert worker.breaker == "open"

    fleet.update([WorkerInfo(id="w0", url="http://127.0.0.1:9000", generation=1)])
    assert worker.breaker == "closed"

    old = breakers.of(worker)
    fleet.update([WorkerInfo(id="w0", url="http://127.0.0.1:9001", generation=1)])
    moved = fleet.workers["w0"]
    assert breakers.of(moved) is not old
    opened(breakers.of(worker))
    assert moved.breaker == "closed"

    fleet.update([])
    assert list(breakers) == []


@given(st.lists(st.sampled_from(["send", "ok", "fail", "leave", "tick"]), max_size=60))
def test_it_never_lets_two_trials_out_and_always_recovers(steps: list[str]) -> None:
    worker = Worker.from_info(WorkerInfo(id="w0", url="http://127.0.0.1:9000"))
    worker.health = "ready"
    breaker = CircuitBreaker(worker, SETTINGS)
    now = 0.0
    out: list[int] = []
    for step in steps:
        now += 1.0
        if step == "tick":
            breaker.tick(now)
        elif step == "send":
            if worker.accepting:
                out.append(breaker.sent())
        elif out:
            trial = out.pop()
            if step == "ok":
                breaker.succeeded(trial)
            elif step == "fail":
                breaker.failed(now, trial)
            else:
                breaker.abandoned(trial)
        assert sum(map(bool, out)) <= 1
        assert (breaker.state == "trial") == (sum(map(bool, out)) == 1)
    for trial in out:
        breaker.abandoned(trial)
    breaker.tick(now + SETTINGS.breaker_open_max)
    assert worker.accepting
