"""Who is sent requests, and who is told of it when that changes."""

from __future__ import annotations

import pytest

from gateway.routing.assignment import NoWorkerError, RouteRequest
from gateway.routing.router import Router


def test_a_worker_holds_as_many_requests_as_its_state_allows(make_fleet) -> None:
    worker = make_fleet("a").workers["a"]
    worker.max_in_flight = 3
    worker.in_flight = 2
    assert worker.accepting
    worker.breaker = "half_open"
    assert not worker.accepting
    worker.in_flight = 0
    assert worker.accepting
    worker.breaker = "open"
    assert not worker.accepting
    worker.breaker, worker.health = "closed", "draining"
    assert not worker.accepting
    worker.health, worker.in_flight = "ready", 3
    assert not worker.accepting


def test_a_watcher_is_told_of_everything_that_decides(make_fleet) -> None:
    worker = make_fleet("a").workers["a"]
    told: list[tuple[object, ...]] = []
    worker.watchers.append(lambda: told.append((worker.health, worker.breaker, worker.models, worker.limit)))
    worker.health = "draining"
    worker.health = "ready"
    worker.breaker = "half_open"
    worker.models = ("x", "y")
    worker.max_in_flight = 0
    assert told == [
        ("draining", "closed", ("m",), 0),
        ("ready", "closed", ("m",), 512),
        ("ready", "half_open", ("m",), 1),
        ("ready", "half_open", ("x", "y"), 1),
        ("ready", "half_open", ("x", "y"), 0),
    ]


@pytest.mark.parametrize("breaker", ["closed", "half_open"])
def test_a_full_worker_gets_nothing_until_one_of_its_requests_ends(breaker: str, make_fleet) -> None:
    fleet = make_fleet("a")
    fleet.workers["a"].max_in_flight = 1
    fleet.workers["a"].breaker = breaker
    routers = Router(fleet), Router(fleet)
    request = RouteRequest("m", b"", bytes(500))
    for router, other in (routers, routers[::-1]):
        routed = router.assign(request, 0.0)
        for full in routers:
            with pytest.raises(NoWorkerError):
                full.assign(request, 0.0)
        routed.finish(1.0, "ok")
        other.assign(request, 1.0).finish(2.0, "failed")


def test_a_worker_that_left_tells_the_router_nothing(make_fleet) -> None:
    fleet = make_fleet("a", "b")
    Router(fleet)
    gone = fleet.workers["a"]
    assert len(gone.watchers) == 1
    fleet.update([])
    assert gone.watchers == []
