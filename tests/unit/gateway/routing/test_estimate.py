from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from gateway.routing.estimate import (
    DecodeRates,
    PrefillRates,
    Work,
    WorkerSpeed,
    non_negative_solution,
)

Truth = Callable[[int, int], float]


def teach(model: PrefillRates, truth: Truth, requests: int, noise: float = 0.0, seed: int = 0) -> None:
    random = Random(seed)
    for _ in range(requests):
        new = int(random.lognormvariate(9.0, 1.0)) + 1
        cached = random.choice((0, 0, 20_000, 80_000))
        seconds = truth(new, cached) * random.lognormvariate(0.0, noise)
        model.observe(Work.of(new, cached, True), seconds)


def linear(new: int, cached: int) -> float:
    return 0.03 + new / 6_000


def curved(new: int, cached: int) -> float:
    return 0.05 + new / 50_000 + new * (2 * cached + new) * 2e-11


@pytest.mark.parametrize("truth", [linear, curved])
def test_rates_are_learned_from_a_prior_that_is_far_off(truth: Truth) -> None:
    model = PrefillRates(1 / 32_000)
    teach(model, truth, 300)
    for new, cached in ((500, 0), (8_000, 0), (8_000, 80_000), (100_000, 0)):
        assert model.seconds(new, cached) == pytest.approx(truth(new, cached), rel=0.1)


def test_a_handful_of_requests_give_the_magnitude() -> None:
    model = PrefillRates(1 / 32_000)
    teach(model, linear, 5)
    assert model.seconds(8_000, 0) == pytest.approx(linear(8_000, 0), rel=0.2)


def test_noise_is_averaged_out() -> None:
    model = PrefillRates(1 / 32_000)
    teach(model, linear, 600, noise=0.4)
    assert model.seconds(8_000, 0) == pytest.approx(linear(8_000, 0), rel=0.35)


def observe(speed: WorkerSpeed, rates: PrefillRates, truth: Truth, requests: int, seed: int = 0) -> None:
    random = Random(seed)
    for _ in range(requests):
        new = int(random.lognormvariate(9.0, 1.0)) + 1
        speed.observe(rates, Work.of(new, 0, True), truth(new, 0) * random.lognormvariate(0.0, 0.03))


def test_equal_workers_look_equal() -> None:
    rates, one, other = PrefillRates(1 / 32_000), WorkerSpeed(), WorkerSpeed()
    observe(one, rates, linear, 40)
    observe(other, rates, linear, 40)
    assert one.factor == other.factor == 1.0


def test_a_worker_that_becomes_slow_is_seen_within_a_few_requests() -> None:
    rates, one, other = PrefillRates(1 / 32_000), WorkerSpeed(), WorkerSpeed()
    observe(one, rates, linear, 200)
    observe(other, rates, linear, 200)
    observe(one, rates, lambda new, cached: 2 * linear(new, cached), 12, seed=1)
    assert one.factor > 1.4
    assert other.factor == 1.0
    observe(one, rates, linear, 60, seed=2)
    assert one.factor == 1.0


def test_one_stall_does_not_move_the_estimate_far() -> None:
    rates, speed = PrefillRates(1 / 32_000), WorkerSpeed()
    observe(speed, rates, linear, 300)
    speed.observe(rates, Work.of(8_000, 0, True), 600.0)
    assert speed.factor * rates.seconds(8_000, 0) < 1.8 * linear(8_000, 0)


def test_more_work_is_never_predicted_to_take_less_time() -> None:
    model = PrefillRates(1 / 32_000)
    random = Random(3)
    for _ in range(200):
        model.observe(Work.of(random.randrange(1, 50_000), random.randrange(99_000), True), random.random())
        assert model.seconds(100, 0) <= model.seconds(1_000, 0) <= model.seconds(1_000, 50_000)
        assert model.overhead >= 0


def test_the_solution_is_the_exact_one_where_that_is_positive() -> None:
    # x = (1, 2, 3) in m = [[4,1,0],[1,3,1],[0,1,5]]
    assert non_negative_solution([4, 1, 0, 3, 1, 5], [6, 10, 17]) == pytest.approx((1, 2, 3))


def test_a_negative_unknown_is_left_out() -> None:
    a, b, c = non_negative_solution([1, 0, 0, 1, 0, 1], [2, 3, -4])
    assert (a, b, c) == (2, 3, 0)


def test_inter_token_latency_is_learned_against_the_batch() -> None:
    decode = DecodeRates()
    random = Random(0)
    for _ in range(300):
        batch = random.randrange(1, 100)
        decode.observe(batch, (0.008 + 0.0004 * batch) * random.lognormvariate(0, 0.1))
    assert decode.seconds(80) == pytest.approx(0.040, rel=0.1)
    assert decode.seconds(1) == pytest.approx(0.0084, rel=0.2)


def test_one_batch_size_alone_gives_no_negative_slope() -> None:
    decode = DecodeRates()
    for _ in range(50):
        decode.observe(4, 0.001)
        assert decode.slope >= 0
        assert decode.base >= 0


def test_engines_that_answer_at_once_are_not_infinitely_fast() -> None:
    """A fake engine, or a proxy that answers from a store: jitter must not make one worker look best."""
    rates, speed = PrefillRates(1 / 32_000), WorkerSpeed()
    for _ in range(200):
        speed.observe(rates, Work.of(4_000, 0, True), 0.0)
    assert speed.factor == 1.0
    assert rates.seconds(4_000, 0) > 0
