from __future__ import annotations

import pytest

from gateway.lab.readers import late_share, shown, stall_share

READY = [0.0, 0.1, 0.2, 0.3, 0.4, 1.0]


def test_tokens_are_shown_in_order() -> None:
    assert shown([1.0, 3.0, 2.0, float("inf"), 4.0], 9.0) == [1.0, 3.0, 3.0, 9.0, 9.0]


def test_gaps_over_200_ms_are_stalls() -> None:
    assert stall_share(READY, [0.0, 0.2, 0.4, 0.4, 0.65, 1.0]) == pytest.approx(0.25 + 0.35)


def test_a_late_start_is_no_stall() -> None:
    assert stall_share(READY, [5.0 + at / 10 for at in READY]) == 0


def test_lateness_counts_each_moment_once() -> None:
    assert late_share(READY, [at + 0.05 for at in READY], 0.05) == 0
    # the token of 0.1 is due at 0.2 and comes at 0.5; those of 0.2 to 0.4 come with it
    assert late_share(READY, [0.05, 0.5, 0.5, 0.5, 0.5, 1.05], 0.05) == pytest.approx(0.3)
    # the token of 0.4 is due at 0.5, comes at 0.8: its waiting begins where that of the others ended
    assert late_share(READY, [0.05, 0.5, 0.5, 0.5, 0.8, 1.05], 0.05) == pytest.approx(0.6)
