"""How long a worker will take: its rates, learned from what the relay sees.

The time to first token of a request with `new` bytes to compute after `cached` ones is modelled as

    queue + factor * (a + b * new + c * new * (2 * cached + new))

where `queue` is the same sum over the requests ahead of it, less what has passed of the first one's
(`prefill_queue`).
The engine is taken to prefill in the order of arrival. `a`, `b`, `c` are a least-squares fit with slow
forgetting over all workers of a model, `factor` is one worker's own and follows it quickly. So a worker that
nobody has tried looks like its peers, and equal workers look equal until there is evidence. Work is counted
in bytes of prompt, as integers, so that what is added for a request is exactly what is taken away after it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Final, NamedTuple

import msgspec

from gateway.routing.tiers import FILE, HOST, OBJECT, VALKEY, fastest

FORGET: Final = 0.998
"""Weight that the fit keeps per observation: about 500 requests of memory."""
FACTOR_FORGET: Final = 0.93
"""The same for a worker's factor: about 14 requests."""
REFIT_EVERY: Final = 16
OUTLIER: Final = 6.0
"""A service time above this multiple of the expected one counts as this multiple (after WARM_UP)."""
WARM_UP: Final = 6
ALIKE: Final = log(1.12)
"""Workers whose factors differ from 1 by less than this are taken to be equally fast."""
TYPICAL_BYTES: Final = 8192.0
TYPICAL_CONTEXT: Final = 131_072.0
PRIOR_OVERHEAD_S: Final = 0.01
LEAST_S_PER_BYTE: Final = 1e-10
SPREAD_STEP: Final = 0.05
PRIOR_ITL_S: Final = 0.02
PRIOR_ITL_SLOPE_S: Final = 0.0001
TYPICAL_BATCH: Final = 32.0
DENSITY_STEP: Final = 0.02
"""Relative change of the bytes per token that is worth resizing the mirrors for."""
LEAST_CHANGE: Final = 1.0 - DENSITY_STEP
MOST_CHANGE: Final = 1.0 + DENSITY_STEP
NEGLIGIBLE_S: Final = 0.002
"""Differences of service times below this are jitter of the event loop and say nothing about a worker."""
PRIOR_PRICES: Final = {HOST: 0.1, FILE: 0.25, VALKEY: 0.3, OBJECT: 0.5}
PRICE_STEP: Final = 0.2


class Work(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Prefill of one request in the features of the model.

    Bytes that a slower tier holds count as so many bytes of prefill as loading them takes.
    """

    new: int
    area: int
    end_seen: bool
    """False when nobody will say when the prefill ends, because the answer comes in one piece."""
    loaded: int = 0
    """Bytes that come from the tiers of `tiers`, at their price a part of `new`."""
    tiers: int = 0

    @classmethod
    def of(cls, new: int, cached: int, end_seen: bool) -> Work:
        """Of a prompt with `new` bytes to compute after `cached` ones."""
        return cls(new, new * (2 * cached + new), end_seen)


class LoadPrices:
    """What loading a byte from a slower tier costs, as a share of computing it; learned for each tier.

    A worker that has not loaded from a tier yet takes the price from `others`, which learns from all workers.
    """

    __slots__ = ("_learned", "_others")

    def __init__(self, others: LoadPrices | None = None) -> None:
        self._others = others
        self._learned: dict[int, float] = {}

    def of(self, tiers: int) -> float:
        """The price at the fastest of `tiers`."""
        tier = fastest(tiers)
        price = self._learned.get(tier)
        if price is not None:
            return price
        return self._others.of(tier) if self._others is not None else PRIOR_PRICES[tier]

    def observe(self, tiers: int, share: float) -> None:
        """A load took `share` of what computing the same would have."""
        tier = fastest(tiers)
        price = self.of(tier)
        self._learned[tier] = price + PRICE_STEP * (min(1.0, max(0.0, share)) - price)
        if self._others is not None:
            self._others.observe(tier, share)

    def learned(self) -> dict[int, float]:
        """By tier, where anything was loaded."""
        return dict(self._learned)


class PrefillRates:
    """Service time of a prefill at a worker of factor 1, for one model."""

    __slots__ = ("_m", "_until_fit", "_v", "by_area", "by_byte", "fit", "observations", "overhead", "spread")

    def __init__(self, seconds_per_byte: float) -> None:
        self.overhead, self.by_byte, self.by_area = PRIOR_OVERHEAD_S, seconds_per_byte, 0.0
        self.fit = object()
        """Another one whenever the rates have changed."""
        self.observations = 0
        self.spread = 0.0
        """Mean absolute deviation of a prefill from what was expected, in the natural logarithm."""
        self._until_fit = 1
        # Normal equations over the scaled features, begun with pseudo-observations of the prior: next to
        # none for the rate, which any real figure should replace, a few for overhead and curvature.
        self._m = [1.0, 0.0, 0.0, 0.02, 0.0, 4.0]
        self._v = [PRIOR_OVERHEAD_S, 0.02 * seconds_per_byte * TYPICAL_BYTES, 0.0]

    def seconds(self, new: int, cached: int) -> float:
        """Prefill of `new` bytes after `cached` ones."""
        return self.overhead + self.by_byte * new + self.by_area * (new * (2 * cached + new))

    def of(self, work: Work) -> float:
        """Seconds that `work` takes."""
        return self.overhead + self.by_byte * work.new + self.by_area * work.area

    def observe(self, work: Work, seconds: float) -> None:
        """`work` took `seconds` at some worker."""
        self.observations += 1
        x = work.new / TYPICAL_BYTES
        y = work.area / (TYPICAL_BYTES * TYPICAL_CONTEXT)
        weight = 1.0 / (0.25 + x)
        m, v = self._m, self._v
        m[0] = m[0] * FORGET + weight
        m[1] = m[1] * FORGET + weight * x
        m[2] = m[2] * FORGET + weight * y
        m[3] = m[3] * FORGET + weight * x * x
        m[4] = m[4] * FORGET + weight * x * y
        m[5] = m[5] * FORGET + weight * y * y
        v[0] = v[0] * FORGET + weight * seconds
        v[1] = v[1] * FORGET + weight * x * seconds
        v[2] = v[2] * FORGET + weight * y * seconds
        self._until_fit -= 1
        if self._until_fit <= 0:
            self._until_fit = 1 if self.observations < REFIT_EVERY else REFIT_EVERY
            a, b, c = non_negative_solution(m, v)
            if a > 0.0 or b > 0.0:
                self.fit = object()
                self.overhead = a
                self.by_byte = max(LEAST_S_PER_BYTE, b / TYPICAL_BYTES)
                self.by_area = c / (TYPICAL_BYTES * TYPICAL_CONTEXT)


class DecodeRates:
    """Inter-token latency against the number of requests at a worker: `base + slope * batch`, for one model.

    A prefill shares its steps with those who decode, so `slope * batch` is also what they add to a first
    token.
    """

    __slots__ = ("_m", "_v", "base", "slope")

    def __init__(self) -> None:
        self.base, self.slope = PRIOR_ITL_S, PRIOR_ITL_SLOPE_S
        # Weights and sums over (1, batch / TYPICAL_BATCH), begun with two pseudo-observations of the prior.
        self._m = [2.0, 1.0, 1.0]
        full = PRIOR_ITL_SLOPE_S * TYPICAL_BATCH
        self._v = [2 * PRIOR_ITL_S + full, PRIOR_ITL_S + full]

    def observe(self, batch: int, seconds: float) -> None:
        """A request had this time between tokens, beside `batch - 1` others."""
        x = batch / TYPICAL_BATCH
        m, v = self._m, self._v
        m[0] = m[0] * FORGET + 1.0
        m[1] = m[1] * FORGET + x
        m[2] = m[2] * FORGET + x * x
        v[0] = v[0] * FORGET + seconds
        v[1] = v[1] * FORGET + x * seconds
        det = m[0] * m[2] - m[1] * m[1]
        slope = (m[0] * v[1] - m[1] * v[0]) / det if det > 1e-9 * m[0] * m[2] else 0.0
        slope = max(0.0, slope)
        self.base = max(0.0, (v[0] - slope * m[1]) / m[0])
        self.slope = slope / TYPICAL_BATCH

    def seconds(self, batch: int) -> float:
        """Expected inter-token latency with `batch` requests at the worker."""
        return self.base + self.slope * batch


class ModelRates(NamedTuple):
    """What is learned about one model over all its workers."""

    prefill: PrefillRates
    decode: DecodeRates


class TextDensity:
    """JSON bytes per prompt token, as a slowly forgetting ratio of sums."""

    __slots__ = ("_bytes", "_resize", "_tokens", "applied")

    def __init__(self, bytes_per_token: float, resize: Callable[[float], None]) -> None:
        """`resize` is told the factor when the density has moved by more than DENSITY_STEP."""
        self.applied = bytes_per_token
        """What sizes in bytes go by."""
        self._resize = resize
        self._bytes = self._tokens = 0.0

    def observe(self, prompt_bytes: int, prompt_tokens: int) -> None:
        """One prompt as the engine counted it."""
        self._bytes = in_bytes = self._bytes * FORGET + prompt_bytes
        self._tokens = in_tokens = self._tokens * FORGET + prompt_tokens
        density = in_bytes / in_tokens
        change = density / self.applied
        if not LEAST_CHANGE <= change <= MOST_CHANGE:
            self.applied = density
            self._resize(change)


class WorkerSpeed:
    """How much slower (above 1) or faster one worker is than the rates say."""

    __slots__ = ("_expected", "_took", "factor")

    def __init__(self) -> None:
        self.factor = 1.0
        self._took = self._expected = 0.0

    def observe(self, rates: PrefillRates, work: Work, seconds: float) -> None:
        """`work` took `seconds` here; teaches the rates too."""
        expected = rates.of(work)
        if rates.observations >= WARM_UP:
            seconds = min(seconds, OUTLIER * expected * self.factor)
            deviation = abs(log((seconds + NEGLIGIBLE_S) / (expected * self.factor + NEGLIGIBLE_S)))
            rates.spread += SPREAD_STEP * (deviation - rates.spread)
        rates.observe(work, seconds)
        expected = rates.of(work)
        if self._expected == 0.0:
            self._took = self._expected = 2.0 * (expected + NEGLIGIBLE_S)
        self._took = self._took * FACTOR_FORGET + seconds + NEGLIGIBLE_S
        self._expected = self._expected * FACTOR_FORGET + expected + NEGLIGIBLE_S
        ratio = min(50.0, max(0.02, self._took / self._expected))
        self.factor = 1.0 if abs(log(ratio)) < ALIKE else ratio


def non_negative_solution(m: list[float], v: list[float]) -> tuple[float, float, float]:
    """Least squares in three non-negative unknowns, by leaving out what would be negative.

    `m` is the upper triangle (00, 01, 02, 11, 12, 22) of the normal equations, `v` their right side.
    """
    m00, m01, m02, m11, m12, m22 = m
    v0, v1, v2 = v
    best = (0.0, max(0.0, v1 / m11), 0.0)
    det = m00 * (m11 * m22 - m12 * m12) - m01 * (m01 * m22 - m12 * m02) + m02 * (m01 * m12 - m11 * m02)
    if det > 1e-12 * m00 * m11 * m22:
        a = (v0 * (m11 * m22 - m12 * m12) - m01 * (v1 * m22 - m12 * v2) + m02 * (v1 * m12 - m11 * v2)) / det
        b = (m00 * (v1 * m22 - v2 * m12) - v0 * (m01 * m22 - m12 * m02) + m02 * (m01 * v2 - v1 * m02)) / det
        c = (m00 * (m11 * v2 - m12 * v1) - m01 * (m01 * v2 - v1 * m02) + v0 * (m01 * m12 - m11 * m02)) / det
        if a >= 0.0 and b >= 0.0 and c >= 0.0:
            return a, b, c
    candidates = [best]
    det = m00 * m11 - m01 * m01
    if det > 1e-12 * m00 * m11:
        candidates.append(((v0 * m11 - v1 * m01) / det, (m00 * v1 - m01 * v0) / det, 0.0))
    det = m11 * m22 - m12 * m12
    if det > 1e-12 * m11 * m22:
        candidates.append((0.0, (v1 * m22 - v2 * m12) / det, (m11 * v2 - m12 * v1) / det))

    def loss(s: tuple[float, float, float]) -> float:
        a, b, c = s
        square = a * a * m00 + b * b * m11 + c * c * m22 + 2 * (a * b * m01 + a * c * m02 + b * c * m12)
        return square - 2 * (a * v0 + b * v1 + c * v2)

    return min((s for s in candidates if min(s) >= 0.0), key=loss)
