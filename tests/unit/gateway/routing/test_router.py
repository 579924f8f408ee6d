from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_adapter.api import WorkerInfo
from gateway.routing.assignment import NoWorkerError, RouteRequest, UnknownPolicyError
from gateway.routing.estimate import PrefillRates
from gateway.routing.fleet import Fleet
from gateway.routing.policies.registry import POLICIES
from gateway.routing.routed import RoutedRequest
from gateway.routing.router import Router
from gateway.routing.settings import RoutingSettings


def ask(text: str, size: int = 4_096, **kwargs: object) -> RouteRequest:
    body = (text.encode() * (size // len(text) + 1))[:size]
    return RouteRequest("m", b"", body, **kwargs)  # type: ignore[arg-type]


def serve(router: Router, request: RouteRequest, now: float, took: float = 0.1) -> RoutedRequest:
    routed = router.assign(request, now)
    routed.first_byte(now + took)
    routed.finish(now + took + 0.1, "ok", 1_000, 0, 10)
    return routed


def test_a_conversation_stays_where_its_prefix_is(make_fleet) -> None:
    router = Router(make_fleet("a", "b", "c"))
    homes = {}
    for turn in range(1, 6):
        for user in "pqrstu":
            worker = serve(router, ask(user, 4_000 * turn), now=turn * 100.0 + ord(user)).worker.id
            assert homes.setdefault(user, worker) == worker
    assert len(set(homes.values())) > 1


def test_a_queue_outweighs_a_short_prefix(make_fleet) -> None:
    router = Router(make_fleet("a", "b"))
    home = serve(router, ask("s", 1_000), now=0.0).worker.id
    for n in range(8):
        router.assign(ask("s" * 250 + str(n), 60_000), now=1.0)
    spread = Counter(record.worker for record in router.explain(8))
    assert set(spread) == {"a", "b"}
    assert spread[home] <= 5


def test_reason_says_policy_hit_and_estimate(make_fleet) -> None:
    router = Router(make_fleet("a"))
    serve(router, ask("x", 5_120), now=0.0)
    reason = router.assign(ask("x", 5_120), now=1.0).reason
    assert reason.startswith("ttft:hit=5120/5120B,est=")
    assert reason.isascii()
    assert reason.isprintable()
    assert " " not in reason


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_policy_uses_only_workers_that_may_be_used(policy: str, make_fleet) -> None:
    fleet = make_fleet("a", "b", "c", "d", "e")
    fleet.workers["a"].health = "unready"
    fleet.workers["b"].breaker = "open"
    fleet.workers["c"].models = ("other",)
    router = Router(fleet, RoutingSettings(policy=policy, seed=0))
    chosen = {router.assign(ask(str(n)), 0.0, exclude=frozenset({"d"})).worker.id for n in range(20)}
    assert chosen == {"e"}


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_policy_spreads_distinct_prompts(policy: str, make_fleet) -> None:
    router = Router(make_fleet("a", "b", "c", "d"), RoutingSettings(policy=policy, seed=0))
    spread = Counter(router.assign(ask(f"user {n}", session=str(n)), 0.0).worker.id for n in range(200))
    assert len(spread) >= (3 if policy == "lora" else 4)  # an adapter gathers as far as load allows
    assert max(spread.values()) <= 80


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_policy_is_told_in_the_reason(policy: str, make_fleet) -> None:
    router = Router(make_fleet("a", "b"))
    for n in range(3):
        reason = router.assign(ask("x", policy=policy, session="s"), float(n)).reason
        assert reason.startswith(f"{policy}:")
        assert not set(reason) & set(" ;\r\n")


def test_policies_can_be_set_per_model_and_per_request(make_fleet) -> None:
    fleet = make_fleet("a", models=("m", "n"))
    router = Router(fleet, RoutingSettings(model_policies={"n": "random"}))
    assert router.assign(RouteRequest("m", b"", b""), 0.0).policy == "ttft"
    assert router.assign(RouteRequest("n", b"", b""), 0.0).policy == "random"
    assert router.assign(RouteRequest("n", b"", b"", policy="least_load"), 0.0).policy == "least_load"


def test_an_unknown_policy_is_refused_with_the_names_there_are(make_fleet) -> None:
    router = Router(make_fleet("a"))
    with pytest.raises(UnknownPolicyError, match=r"'nearest'.*power_of_two.*ttft"):
        router.assign(ask("x", policy="nearest"), 0.0)


def test_nobody_there_is_told_apart_from_nobody_ready(make_fleet) -> None:
    fleet = make_fleet("a")
    router = Router(fleet)
    with pytest.raises(NoWorkerError, match="'q'") as unknown:
        router.assign(RouteRequest("q", b"", b""), 0.0)
    assert unknown.value.unknown_model
    fleet.workers["a"].health = "unready"
    fleet.workers["a"].message = "loading the model"
    with pytest.raises(NoWorkerError, match="a loading the model") as unready:
        router.assign(ask("x"), 0.0)
    assert not unready.value.unknown_model


def test_a_restarted_worker_has_an_empty_cache(make_fleet) -> None:
    fleet = make_fleet("a")
    router = Router(fleet)
    serve(router, ask("x"), 0.0)
    fleet.update([WorkerInfo(id="a", url="http://127.0.0.1:9000", generation=1)])
    assert ":hit=0/" in router.assign(ask("x"), 1.0).reason


def test_a_request_that_never_reached_the_engine_leaves_no_prefix_behind(make_fleet) -> None:
    router = Router(make_fleet("a"))
    router.assign(ask("x"), 0.0).finish(0.1, "failed")
    assert ":hit=0/" in router.assign(ask("x"), 1.0).reason


def test_explain_compares_the_estimate_with_what_happened(make_fleet) -> None:
    router = Router(make_fleet("a"), RoutingSettings(explain_records=3))
    for n in range(5):
        serve(router, ask(str(n)), now=float(n), took=0.25)
    records = router.explain()
    assert [r.at for r in records] == [4.0, 3.0, 2.0]
    assert records[0].ttft_s == pytest.approx(0.25)
    assert records[0].estimate_s > 0
    assert (records[0].outcome, records[0].prompt_tokens) == ("ok", 1_000)
    account = router.account.by_policy["ttft"]
    assert (account.predictions, account.ended, account.prompt_tokens) == (5, 5, 5_000)
    assert account.ttft_s == pytest.approx(1.25)
    assert account.absolute_error_s < 1.25


def test_a_slow_worker_gets_less_without_being_configured_so(make_fleet) -> None:
    router = Router(make_fleet("fast", "slow"))
    free = {"fast": 0.0, "slow": 0.0}
    counts: Counter[str] = Counter()
    events: list[tuple[float, int, RoutedRequest]] = []
    for n in range(400):
        now = n * 0.4
        for at, _, routed in sorted(e for e in events if e[0] <= now):
            routed.first_byte(at)
            routed.finish(at, "ok")
        events = [e for e in events if e[0] > now]
        routed = router.assign(ask(f"user {n}", 8_192), now)
        worker = routed.worker.id
        counts[worker] += 1
        free[worker] = max(free[worker], now) + (0.5 if worker == "fast" else 1.5)
        events.append((free[worker], n, routed))
    assert counts["fast"] > 2 * counts["slow"] > 0


STEP = st.tuples(
    st.sampled_from(["assign", "first", "ok", "aborted", "failed", "leave", "join", "restart"]),
    st.integers(0, 10),
)


@given(st.lists(STEP, max_size=80), st.sampled_from(sorted(POLICIES)))
def test_every_counter_returns_to_zero(steps: list[tuple[str, int]], policy: str) -> None:
    """Under any interleaving of requests and membership, once all requests have ended."""
    fleet, infos = Fleet(), {i: WorkerInfo(id=i, url=f"http://127.0.0.1/{i}") for i in "abc"}
    router = Router(fleet, RoutingSettings(policy=policy, seed=0))

    def refresh() -> None:
        fleet.update(list(infos.values()))
        for worker in fleet:
            worker.models, worker.health = ("m",), "ready"

    refresh()
    seen = {id(w): w for w in fleet}
    states = router.states()
    running: list[RoutedRequest] = []
    now = 0.0
    for step, n in steps:
        now += 0.05 * n
        name = "abc"[n % 3]
        if step == "assign" and infos:
            running.append(router.assign(ask("pqr"[n % 3], 300 * n, stream=n % 4 > 0, session="s"), now))
        elif step == "leave":
            infos.pop(name, None)
        elif step == "join":
            infos.setdefault(name, WorkerInfo(id=name, url=f"http://127.0.0.1/{name}"))
        elif step == "restart" and name in infos:
            infos[name] = WorkerInfo(
                id=name, url=f"http://127.0.0.1/{name}", generation=infos[name].generation + 1
            )
        elif running and step == "first":
            running[n % len(running)].first_byte(now)
        elif running and step in ("ok", "aborted", "failed"):
            running.pop(n % len(running)).finish(now, step)  # type: ignore[arg-type]
        refresh()
        seen.update({id(w): w for w in fleet})
        states.extend(s for s in router.states() if s not in states)
        assert sum(w.in_flight for w in seen.values()) == len(running)
        assert sum(len(s.queue) for s in states) <= len(running)
    for routed in running:
        routed.finish(now, "ok")
        routed.finish(now, "ok")
    assert all(w.in_flight == 0 for w in seen.values())
    rates = PrefillRates(1.0)
    for state in states:
        assert (len(state.queue), state.queue.new_bytes, state.queue.seconds(rates, 1.0, now)) == (0, 0, 0.0)


def test_cache_sizes_follow_what_engines_say_a_token_is(make_fleet) -> None:
    fleet = make_fleet("a", "b")
    router = Router(fleet, RoutingSettings(bytes_per_token=4.0))
    router.know_cache_size("a", 10_000)
    router.know_cache_size("nobody", 10_000)
    for n in range(20):
        router.assign(ask(str(n), 4_000), 0.0).finish(1.0, "ok", prompt_tokens=2_000)
    router.know_cache_size("b", 10_000)
    assert [s.cache.capacity for s in router.states()] == [20_000, 20_000]


@pytest.mark.parametrize("told", [True, False])
def test_a_cache_smaller_than_assumed_is_noticed(told: bool, make_fleet) -> None:
    """From the engine's token counts where there are some, from the prefill times otherwise."""
    router = Router(make_fleet("a"), RoutingSettings(cache_tokens=100_000))
    now = 0.0
    for n in range(200):
        request = ask(f"user {n % 10}", 10_000)
        first = router.assign(ask("warm", 1_000 + n), now)
        first.first_byte(now + 0.025)
        first.finish(now + 0.025, "ok")
        routed = router.assign(request, now + 1.0)
        routed.first_byte(now + 1.25)
        routed.finish(now + 1.25, "ok", *((2_500, 10 if n < 5 else 0) if told else ()))
        now += 2.0
    assert router.states()[0].cache.capacity < 120_000


def test_requests_spread_over_engines_that_answer_at_once(make_fleet) -> None:
    router = Router(make_fleet("a", "b", "c", "d"), RoutingSettings(seed=0))
    counts: Counter[str] = Counter()
    for n in range(400):
        routed = serve(router, ask(f"user {n}", 2_000), now=n * 0.01, took=0.0)
        counts[routed.worker.id] += 1
    assert min(counts.values()) > 50


def test_of_equal_workers_the_one_that_decodes_less_is_chosen(make_fleet) -> None:
    fleet = make_fleet("a", "b")
    router = Router(fleet)
    for n in range(20):
        serve(router, ask(f"user {n}"), now=n * 1.0)
    fleet.workers["a"].in_flight = 50
    assert router.assign(ask("new"), 100.0).worker.id == "b"
