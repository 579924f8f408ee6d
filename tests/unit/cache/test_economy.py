"""What loading and computing are expected to cost, and the choice that this leads to."""

from __future__ import annotations

import random

import pytest

from cache.cost import PrefillCost, TransferCost
from cache.economy import FAR, PRIORS, Decision, Economy, Segment
from tests.unit.cache.stores import CHUNK_BYTES, Bench, plan, shared_tier


def truth(tokens: int, context: int) -> float:
    """A machine: 5 ms a step, 30 us a token, 20 ns a pair of tokens."""
    return 0.005 + 30e-6 * tokens + 20e-9 * tokens * (context + tokens / 2)


def economy() -> Economy:
    measured = Economy()
    for _ in range(5):
        measured.observe_prefill(1000, 0, 1.0)
        measured.observe_load("file", 10, 10_000_000, 0.011)
        measured.observe_load("file", 1, 1_000_000, 0.002)
        measured.observe_load("s3", 10, 10_000_000, 3.0)
    return measured


def test_what_is_slower_than_computing_is_not_loaded() -> None:
    measured = economy()
    assert measured.load_seconds("file", 5_000_000) == pytest.approx(0.006)
    chosen = measured.choose(1000, [Segment("file", 10, 10_000_000), Segment("s3", 10, 10_000_000)], 32)
    assert (chosen.chunks, chosen.reason) == (10, "pays")
    assert 0.1 < chosen.saved_seconds < 0.32
    assert measured.choose(1000, [Segment("s3", 20, 20_000_000)], 32).reason == "too slow"
    measured.judge(chosen, 1.5)
    assert measured.counters.regretted == 1
    assert measured.counters.error_seconds == pytest.approx(1.489)


def test_what_was_refused_is_tried_out_at_the_first_contact_and_then_now_and_then() -> None:
    measured = economy()
    chosen = [measured.choose(1000, [Segment("s3", 50, 50_000_000)], 32) for _ in range(41)]
    assert {decision.chunks for decision in chosen} == {0}
    assert [(number, one.explore) for number, one in enumerate(chosen) if one.explore] == [
        (0, 8),
        (20, 32),
        (40, 50),
    ]
    assert measured.counters.explored == 3
    assert measured.counters.refusals == 41


def test_the_rest_of_a_prefix_that_pays_in_part_is_tried_out_too() -> None:
    measured = economy()
    chosen = measured.choose(1000, [Segment("file", 10, 10_000_000), Segment("s3", 4, 4_000_000)], 32)
    assert (chosen.chunks, chosen.explore) == (10, 4)


def test_a_tier_that_was_never_measured_has_to_pay_at_a_cautious_guess() -> None:
    measured = economy()
    assert measured.choose(1000, [Segment("valkey", 30, 10_000_000)], 32).chunks == 30
    assert measured.load_seconds("valkey", 10_000_000) == pytest.approx(PRIORS["valkey"].at(10_000_000))
    assert measured.load_seconds("anything", 1_000_000) == pytest.approx(FAR.at(1_000_000))
    assert measured.choose(1000, [Segment("another", 30, 30_000_000)], 32).chunks == 0


def test_before_the_first_prefill_what_is_near_is_loaded_and_what_is_far_computed() -> None:
    chosen = Economy().choose(1000, [Segment("file", 3, 300), Segment("s3", 4, 400)], 32)
    assert (chosen.chunks, chosen.reason, chosen.explore) == (3, "unmeasured", 4)
    assert economy().choose(1000, [], 32) == Decision(0, 0.0, 0.0, "nothing")


def test_short_prompts_do_not_make_long_ones_look_dearer_than_they_are() -> None:
    cost = PrefillCost()
    for tokens in (80, 90, 100, 80, 120, 100):
        cost.observe(tokens, 0, truth(tokens, 0))
    expected = cost.at(3500, 0)
    assert expected is not None
    proportional = truth(100, 0) * 35
    assert expected < 0.75 * proportional  # the fixed part is not known yet; it is at least not all a rate
    for tokens in (1, 1, 3, 16):
        cost.observe(tokens, 2000, truth(tokens, 2000))
    expected = cost.at(3500, 0)
    assert expected is not None
    assert expected < 1.5 * truth(3500, 0)


def test_prefill_is_expected_as_it_was_for_every_length_and_context() -> None:
    cost, source = PrefillCost(), random.Random(1)
    for _ in range(40):
        tokens = source.choice([100, 300, 700, 1500, 3000])
        cost.observe(tokens, 0, truth(tokens, 0) * source.uniform(0.9, 1.1))
        cost.observe(1, 500, truth(1, 500))
    for tokens, context in ((200, 0), (1000, 0), (3500, 0), (500, 3000)):
        assert cost.at(tokens, context) == pytest.approx(truth(tokens, context), rel=0.2)


def test_a_stalled_machine_is_no_new_rate() -> None:
    cost = PrefillCost()
    for tokens in (500, 1000, 2000) * 3:
        cost.observe(tokens, 0, truth(tokens, 0))
    cost.observe(1000, 0, 50.0)
    expected = cost.at(1000, 0)
    assert expected is not None
    assert expected < 1.5 * truth(1000, 0)
    transfer = TransferCost()
    for nbytes in (1e6, 2e6, 3e6) * 3:
        transfer.observe(nbytes, 0.001 + nbytes / 1e9)
    transfer.observe(2e6, 10.0)
    after = transfer.at(2e6)
    assert after is not None
    assert after < 0.006


def test_transfers_are_not_extrapolated_in_their_favour() -> None:
    cost = TransferCost()
    assert cost.at(1e6) is None
    for _ in range(3):
        cost.observe(1e6, 0.01)  # one size only: nothing tells a slow start from a slow tier
    assert cost.at(4e6) == pytest.approx(0.04)
    cost.observe(2e6, 0.011)
    assert cost.at(1.5e6) == pytest.approx(0.0105, rel=0.05)
    assert cost.at(20e6) == pytest.approx(0.11, rel=0.05)


@pytest.mark.parametrize(("prefill", "ready"), [(10.0, 6), (0.0001, 0)])
def test_what_asking_finds_is_loaded_only_if_that_pays(prefill: float, ready: int) -> None:
    tier = shared_tier()
    here, other = Bench(tiers=[plan(tier)]), Bench(tiers=[plan(tier)])
    here.jobs.run()  # it looks through the tier before the other one saves
    keys = other.keys(6)
    other.save(keys)
    other.jobs.run()
    economy = here.store.economy
    for _ in range(4):
        economy.observe_prefill(100, 0, prefill)
        economy.observe_load("file", 6, 6 * CHUNK_BYTES, 0.01)
    lease = here.store.lookup(here.keys(6), owner="test")
    assert lease.known == 0
    here.store.fetch(lease, seconds=10, tokens=100)
    here.jobs.run()
    assert lease.done
    assert lease.ready == ready
    assert lease.decision is not None
    assert lease.decision.chunks == ready
    lease.release()
    # What was refused has been tried out behind the request's back: the next one finds it in memory.
    here.jobs.run()
    assert here.ready(here.keys(6)) >= 4
    for bench in (here, other):
        bench.store.close()
