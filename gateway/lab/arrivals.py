"""When a model writes its tokens."""

from __future__ import annotations

import random
from itertools import accumulate

from gateway.lab.recorded import GAPS_MS


def token_times(rate: float, seconds: float, rng: random.Random) -> list[float]:
    """Seconds at which tokens are written, for about `seconds`: `rate` per second, or as recorded if 0."""
    if rate:
        return [i / rate for i in range(max(2, round(seconds * rate)))]
    start = rng.randrange(len(GAPS_MS))
    gaps = (GAPS_MS[start:] + GAPS_MS[:start])[: max(2, round(seconds * 1000 * len(GAPS_MS) / sum(GAPS_MS)))]
    return [0.0, *(at / 1000 for at in accumulate(gaps[1:]))]
