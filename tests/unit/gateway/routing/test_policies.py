from __future__ import annotations

from collections import Counter

import pytest

from gateway.routing.assignment import RouteRequest
from gateway.routing.fleet import Fleet
from gateway.routing.policies.registry import POLICIES
from gateway.routing.router import Router
from gateway.routing.settings import RoutingSettings


def ask(text: str, size: int = 4_096, model: str = "m", session: str | None = None) -> RouteRequest:
    return RouteRequest(model, b"", (text.encode() * (size // len(text) + 1))[:size], session)


def router(fleet: Fleet, policy: str, **settings: object) -> Router:
    return Router(fleet, RoutingSettings(policy=policy, seed=0, **settings))  # type: ignore[arg-type]


def serve(target: Router, request: RouteRequest, now: float = 0.0) -> str:
    routed = target.assign(request, now)
    routed.first_byte(now)
    routed.finish(now, "ok")
    return routed.worker.id


def test_round_robin_takes_each_in_turn(make_fleet) -> None:
    target = router(make_fleet("a", "b", "c"), "round_robin")
    assert [serve(target, ask("x")) for _ in range(6)] == list("abcabc")


def test_least_load_takes_the_one_with_fewest_requests(make_fleet) -> None:
    fleet = make_fleet("a", "b", "c")
    for worker, load in zip(fleet, (3, 1, 2), strict=True):
        worker.in_flight = load
    target = router(fleet, "least_load")
    assert target.assign(ask("x"), 0.0).worker.id == "b"
    assert {target.assign(ask("x"), 0.0).worker.id for _ in range(2)} == {"b", "c"}
    assert sorted(w.in_flight for w in fleet) == [3, 3, 3]


def test_power_of_two_avoids_the_most_loaded(make_fleet) -> None:
    fleet = make_fleet("a", "b", "c")
    fleet.workers["a"].in_flight = 100
    target = router(fleet, "power_of_two")
    assert {target.assign(ask("x"), 0.0).worker.id for _ in range(50)} == {"b", "c"}


def test_a_seed_makes_random_choices_repeatable(make_fleet) -> None:
    runs = [
        [serve(router(make_fleet("a", "b", "c"), policy), ask("x")) for _ in range(3)]
        for policy in ("random", "power_of_two")
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert runs[2] == runs[3]


def test_sessions_stay_and_only_those_of_a_leaving_worker_move(make_fleet) -> None:
    fleet = make_fleet("a", "b", "c", "d")
    target = router(fleet, "session")
    sessions = [f"user-{n}" for n in range(100)]
    homes = {s: serve(target, ask("x", session=s)) for s in sessions}
    assert homes == {s: serve(target, ask("y", session=s)) for s in sessions}
    assert min(Counter(homes.values()).values()) >= 10
    fleet.workers["b"].health = "draining"
    after = {s: serve(target, ask("x", session=s)) for s in sessions}
    assert {s for s in sessions if after[s] != homes[s]} == {s for s in sessions if homes[s] == "b"}


def test_one_session_does_not_overload_its_home(make_fleet) -> None:
    fleet = make_fleet("a", "b", "c", "d")
    target = router(fleet, "session", session_load_factor=1.25)
    for _ in range(40):
        target.assign(ask("x", session="busy"), 0.0)
    assert max(w.in_flight for w in fleet) <= 13


@pytest.mark.parametrize("policy", ["prefix", "prefix_exact"])
def test_prefix_policies_follow_the_deepest_prefix(policy: str, make_fleet) -> None:
    target = router(make_fleet("a", "b", "c"), policy)
    homes = {user: serve(target, ask(user)) for user in "pqr"}
    assert set(homes.values()) == {"a", "b", "c"}
    assert homes == {user: serve(target, ask(user, 8_192)) for user in "pqr"}


@pytest.mark.parametrize("policy", ["prefix", "prefix_exact", "ttft"])
def test_a_universal_prefix_makes_no_hot_spot(policy: str, make_fleet) -> None:
    fleet = make_fleet("a", "b", "c", "d")
    target = router(fleet, policy)
    system = "s" * 1_024
    for n in range(80):
        target.assign(ask(system + f"{n:04d}" * 1_000, 4_096), 0.0)
    assert max(w.in_flight for w in fleet) <= 32


def test_prefix_yields_to_load(make_fleet) -> None:
    fleet = make_fleet("a", "b")
    target = router(fleet, "prefix", prefix_load_factor=1.5)
    home = serve(target, ask("x"))
    while (waiting := target.assign(ask("x"), 0.0)).worker.id == home:
        assert fleet.workers[home].in_flight < 10
    waiting.finish(0.0, "aborted")
    routed = target.assign(ask("x"), 0.0)
    assert routed.worker.id != home
    assert routed.reason.endswith(",overloaded=1")


def test_prefix_exact_says_whose_events_are_live(make_fleet) -> None:
    target = router(make_fleet("a", "b"), "prefix_exact")
    assert target.assign(ask("x"), 0.0).reason.endswith("events=0/2")


def test_prefix_exact_believes_the_engine_over_the_mirror(make_fleet) -> None:
    class Holds:
        def depth(self, prompt: object) -> int:
            return 5

    target = router(make_fleet("a", "b"), "prefix_exact")
    home = serve(target, ask("x", 1_024))
    other = next(s for s in target.states() if s.worker.id != home)
    other.confirmed = Holds()
    assert target.assign(ask("x", 1_024), 0.0).worker.id == other.worker.id


def test_adapters_gather_where_they_are_loaded(make_fleet) -> None:
    fleet = make_fleet("a", "b", models=("one", "two", "three"))
    target = router(fleet, "lora")
    homes = {model: serve(target, ask("x", model=model)) for model in ("one", "two")}
    assert sorted(homes.values()) == ["a", "b"]
    for n in range(3):
        assert serve(target, ask(f"other {n}", model="one")) == homes["one"]
        assert serve(target, ask(f"other {n}", model="two")) == homes["two"]
    assert target.assign(ask("x", model="three"), 0.0).reason.endswith("adapter=swap")


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_no_policy_changes_what_it_reads(policy: str, make_fleet) -> None:
    """The router counts; a policy that did too would count twice."""
    fleet = make_fleet("a", "b", "c")
    target = router(fleet, policy)
    target.assign(ask("x", session="s"), 0.0)
    assert sorted(w.in_flight for w in fleet) == [0, 0, 1]
    assert sorted(len(s.queue) for s in target.states()) == [0, 0, 1]
