"""What a reader notices: two kinds of them, because the ranking of schemes depends on which is asked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

STALL_SECONDS = 0.2
GRACE_SECONDS = 0.05


def shown(arrived: Sequence[float], horizon: float) -> list[float]:
    """When each token can be shown, in order; at `horizon` if never."""
    return [min(at, horizon) for at in accumulate(arrived, max)]


def stall_share(ready: Sequence[float], shown_at: Sequence[float]) -> float:
    """Share of the answer's time spent in gaps of more than 200 ms between shown tokens.

    This reader takes text as it comes; a late start of the whole answer does not count.
    """
    gaps = (after - before for before, after in zip(shown_at, shown_at[1:], strict=False))
    return sum(gap for gap in gaps if gap > STALL_SECONDS) / (ready[-1] - ready[0])


def late_share(ready: Sequence[float], shown_at: Sequence[float], delay: float) -> float:
    """Share of the answer's time in which the next token is overdue.

    Due is a token `delay` (one way) and a grace of 50 ms after it was written. This reader keeps to the
    source's own schedule, so a stall is not forgiven by what comes after it.
    """
    late, before = 0.0, float("-inf")
    for written, at in zip(ready, shown_at, strict=True):
        late += max(0.0, at - max(written + delay + GRACE_SECONDS, before))
        before = at
    return late / (ready[-1] - ready[0])
