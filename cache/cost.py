"""What computing and loading take, learned from what they took: pure arithmetic, in seconds."""

from __future__ import annotations

_DECAY = 0.95
"""Weight that old measurements keep when a new one comes."""
_OUTLIER = 3.0
"""Times more or less than expected that one measurement may say at most: a stalled machine is no new rate."""
_SETTLED = 3
"""Measurements after which there is something to expect."""
_SPREAD = 0.05
"""How different lengths have to be (the squared sine between tokens and pairs) to tell tokens from pairs."""
SHORT_STEP = 64
"""Tokens of a step below which it says what a step costs, not what a token does."""


class TransferCost:
    """A line of seconds over bytes, neither part of it negative.

    Nothing is extrapolated in its favour: what is larger than all that was measured costs in proportion to
    the largest, since a fetch of several batches pays the fixed part for each.
    """

    __slots__ = ("_count", "_largest", "_n", "_x", "_xx", "_xy", "_y")

    def __init__(self) -> None:
        self._count = 0
        self._largest = self._n = self._x = self._y = self._xx = self._xy = 0.0

    def observe(self, nbytes: float, seconds: float) -> None:
        expected = self.at(nbytes) if self._count >= _SETTLED else None
        if expected:
            seconds = min(max(seconds, expected / _OUTLIER), expected * _OUTLIER)
        self._count += 1
        self._largest = max(self._largest, nbytes)
        self._n = self._n * _DECAY + 1
        self._x = self._x * _DECAY + nbytes
        self._y = self._y * _DECAY + seconds
        self._xx = self._xx * _DECAY + nbytes * nbytes
        self._xy = self._xy * _DECAY + nbytes * seconds

    def at(self, nbytes: float) -> float | None:
        """Expected seconds, None before the first measurement."""
        if not self._count or not self._xx:
            return None
        if nbytes > self._largest:
            return self._within(self._largest) * nbytes / self._largest
        return self._within(nbytes)

    def _within(self, nbytes: float) -> float:
        spread = self._n * self._xx - self._x * self._x
        through_origin = self._xy / self._xx
        slope = through_origin
        if spread > 1e-6 * self._xx * self._n:
            slope = (self._n * self._xy - self._x * self._y) / spread
        slope = min(max(slope, 0.0), through_origin)
        base = max(0.0, (self._y - slope * self._x) / self._n)
        return base + slope * nbytes


class PrefillCost:
    """Seconds of a step that computes n tokens after c others: `step + token * n + pair * n * (c + n / 2)`.

    The fixed part is what short steps take, such as those of decoding; as long as none was seen, half of the
    shortest prefill counts as fixed. The rest is fitted to the prefills by relative error, so that short ones
    count as much as long ones; neither part is negative.
    """

    __slots__ = ("_count", "_shortest", "_step", "_sums")

    def __init__(self) -> None:
        self._count = 0
        self._step: float | None = None
        self._shortest = 0.0
        self._sums = [0.0] * 7
        """Of n, z, nn, nz, zz, ny, zy, with z the pairs and y the seconds, each weighted by 1 / y^2."""

    def observe(self, tokens: int, context: int, seconds: float) -> None:
        if tokens < SHORT_STEP:
            known = self._step
            self._step = seconds if known is None else 0.8 * known + 0.2 * min(seconds, _OUTLIER * known)
            return
        expected = self.at(tokens, context) if self._count >= _SETTLED else None
        if expected:
            seconds = min(max(seconds, expected / _OUTLIER), expected * _OUTLIER)
        self._count += 1
        self._shortest = min(seconds, self._shortest or seconds)
        n, z, w = float(tokens), _pairs(tokens, context), 1 / (seconds * seconds)
        new = (n, z, n * n, n * z, z * z, n * seconds, z * seconds)
        self._sums = [old * _DECAY + w * term for old, term in zip(self._sums, new, strict=True)]

    def at(self, tokens: int, context: int) -> float | None:
        """Expected seconds; None before the first prefill was measured."""
        if not self._count:
            return None
        step = 0.5 * self._shortest
        if self._step is not None:
            step = min(self._step, 0.9 * self._shortest)
        per_token, per_pair = self._rates(step)
        return step + per_token * tokens + per_pair * _pairs(tokens, context)

    def _rates(self, step: float) -> tuple[float, float]:
        n, z, nn, nz, zz, ny, zy = self._sums
        ny, zy = ny - step * n, zy - step * z
        determinant = nn * zz - nz * nz
        if determinant > _SPREAD * nn * zz:
            token, pair = (zz * ny - nz * zy) / determinant, (nn * zy - nz * ny) / determinant
            if token >= 0 and pair >= 0:
                return token, pair
            if token < 0:
                return 0.0, max(0.0, zy / zz)
        return max(0.0, ny / nn), 0.0


def _pairs(tokens: int, context: int) -> float:
    """How many earlier tokens all of them look at together."""
    return tokens * (context + tokens / 2)
