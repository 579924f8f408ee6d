from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.retry import HedgeDelay, RetryBudget
from gateway.relay.settings import Hedging, Retries


def budget(share: float = 0.2, floor: int = 2, window: float = 10.0) -> RetryBudget:
    return RetryBudget(Retries(budget=share, budget_floor=floor, window=window))


def test_a_quiet_gateway_may_retry_a_little() -> None:
    b = budget()
    assert [b.take(0.0) for _ in range(4)] == [True, True, False, False]


def test_a_share_of_recent_requests() -> None:
    b = budget()
    for _ in range(50):
        b.request(0.0)
    assert sum(b.take(1.0) for _ in range(100)) == 10


def test_both_age() -> None:
    b = budget()
    for _ in range(50):
        b.request(0.0)
    assert sum(b.take(4.0) for _ in range(100)) == 10
    assert not b.take(6.0)  # the half before still counts
    assert sum(b.take(11.0) for _ in range(100)) == 2  # two halves later only the floor is left
    assert sum(b.take(500.0) for _ in range(100)) == 2


def test_no_budget_is_no_retry() -> None:
    b = budget(share=0.0, floor=0)
    b.request(0.0)
    assert not b.take(0.0)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=200), st.integers(0, 3))
def test_retries_never_exceed_the_share_of_a_window(steps: list[tuple[bool, float]], floor: int) -> None:
    b = budget(share=0.5, floor=floor)
    now = 0.0
    requests: list[float] = []
    granted: list[float] = []
    for is_request, pause in steps:
        now += pause
        if is_request:
            b.request(now)
            requests.append(now)
        elif b.take(now):
            granted.append(now)
            # Half a window back at least, a whole one at most, is what the budget sees.
            seen = sum(t > now - 10.0 for t in requests)
            assert sum(t > now - 5.0 for t in granted) <= max(floor, 0.5 * seen + 1)


def test_the_hedge_delay_needs_samples() -> None:
    delay = HedgeDelay(Hedging(enabled=True, quantile=0.9, min_seconds=0.1))
    for n in range(19):
        delay.observe(n)
    delay.update()
    assert delay.seconds == float("inf")
    delay.observe(19)
    delay.update()
    assert delay.seconds == 17  # the 0.9 quantile of 0..19


def test_the_hedge_delay_has_a_floor_and_forgets() -> None:
    delay = HedgeDelay(Hedging(enabled=True, quantile=0.95, min_seconds=0.5))
    for _ in range(100):
        delay.observe(0.01)
    delay.update()
    assert delay.seconds == 0.5
    for _ in range(512):
        delay.observe(2.0)
    delay.update()
    assert delay.seconds == 2.0


@pytest.mark.parametrize("quantile", [0.4, 1.0, -1.0])
def test_quantiles_that_make_no_sense(quantile: float) -> None:
    with pytest.raises(ValueError, match="quantile"):
        Hedging(quantile=quantile)
