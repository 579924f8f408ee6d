"""Confidence intervals for means over seeds, and for how two schemes compare on the same seeds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache

RESAMPLES = 1000
Interval = tuple[float, float, float]
"""Estimate, and the 2.5 and 97.5 per cent points of its bootstrap distribution."""


@lru_cache(maxsize=8)
def _draws(count: int) -> tuple[tuple[int, ...], ...]:
    rng = random.Random(count)
    return tuple(tuple(rng.choices(range(count), k=count)) for _ in range(RESAMPLES))


def _means(values: Sequence[float]) -> list[float]:
    return [sum([values[i] for i in draw]) / len(values) for draw in _draws(len(values))]


def _interval(estimate: float, resampled: list[float]) -> Interval:
    ordered = sorted(resampled)
    return estimate, ordered[int(0.025 * len(ordered))], ordered[int(0.975 * len(ordered))]


def mean(values: Sequence[float]) -> Interval:
    """The mean of `values`, one per seed."""
    return _interval(sum(values) / len(values), _means(values))


def ratio(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> Interval | None:
    """Mean of `ours` over mean of `theirs`: per link one value per seed, every link counting the same.

    Seeds are drawn for both together (paired), for each link anew. None if theirs are 0 throughout.
    """
    above, below = _over_links(ours), _over_links(theirs)
    total = sum(sum(link) / len(link) for link in theirs)
    if not total or min(below) <= 0:
        return None
    estimate = sum(sum(link) / len(link) for link in ours) / total
    return _interval(estimate, [a / b for a, b in zip(above, below, strict=True)])


def _over_links(links: Sequence[Sequence[float]]) -> list[float]:
    """Per resample the sum over links of their means, link k taking draws that start at the k-th."""
    totals = [0.0] * RESAMPLES
    for k, values in enumerate(links):
        means = _means(values)
        for i in range(RESAMPLES):
            totals[i] += means[(i + 37 * k) % RESAMPLES]
    return totals
