"""Dead-zone quantisation of transform coefficients that are scaled so that the step is 1."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import numba
import numpy as np

from kernels.cpu.jit import array, kernel

LARGEST = 32000
"""Largest magnitude of a quantised coefficient."""


@kernel(array(numba.float32, 2, readonly=True), numba.float32, array(numba.int16, 2))
def to_levels(coefficients, rounding, levels):
    """sign(x) * floor(|x| + rounding) for `coefficients` [rows, n]; 0.5 rounds to nearest, less widens zero.

    Returns 0, or -1 if one is larger than `LARGEST` or NaN.
    """
    rows, n = coefficients.shape
    wrong = np.int32(0)
    for r in range(rows):
        for i in range(n):
            x = coefficients[r, i]
            size = np.int32(min(abs(x), np.float32(LARGEST)) + rounding)
            wrong |= np.int32(not (abs(x) < np.float32(LARGEST)))
            levels[r, i] = np.int16(-size if x < 0 else size)
    return np.int64(0) if wrong == 0 else np.int64(-1)


@kernel(array(numba.int16, 2, readonly=True), numba.float32, numba.float32, array(numba.float32, 2))
def from_levels(levels, one, more, coefficients):
    """Numbers for levels: magnitude 1 stands for 1 + `one`, a greater m for m + `more` (centres of mass)."""
    rows, n = levels.shape
    for r in range(rows):
        for i in range(n):
            level = np.float32(levels[r, i])
            size = abs(level)
            size += (one if size < np.float32(1.5) else more) if size > np.float32(0.5) else np.float32(0)
            coefficients[r, i] = -size if level < 0 else size
    return 0
