"""Parts of kernels: uniform quantisation of bfloat16 tiles whose rows are multiples of 32 elements.

What engines have nearly always. The same arithmetic as the plain loops of `uniform`, on pairs of elements
(`lanes`) and without a tile of float32 in between.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import numpy as np

from kernels.cpu.jit import part
from kernels.cpu.lanes import (
    LANES,
    codes_of_columns,
    codes_of_row,
    extremes,
    numbers_of_columns,
    numbers_of_row,
)
from kernels.pages import BFLOAT16

_LARGE_LOW = np.uint16(0x7E80)
_LARGE_STEP = np.uint16(0x7A80)
_MAGNITUDE = np.uint16(0x7FFF)


@part
def fits(kind, columns):
    """Whether these parts take a tile."""
    return kind == BFLOAT16 and columns % (2 * LANES) == 0


@part
def ends_of_rows(words, columns, low, high):
    """Least and greatest word (int16) of each row, as `uniform._ends_of_rows16`."""
    for r in range(words.size // columns):
        least, most = np.int16(32767), np.int16(-32767)
        for at in range(r * columns, (r + 1) * columns, 2 * LANES):
            one, two = extremes(words, at)
            least, most = min(least, one), max(most, two)
        low[r], high[r] = least, most


@part
def codes(pairs, by_row, low, inverse, coded):
    """Fill `coded` (pairs of codes) for `pairs` of numbers."""
    if by_row:
        row = pairs.size // low.size
        for r in range(low.size):
            for at in range(r * row, (r + 1) * row, LANES):
                codes_of_row(pairs, at, low[r], inverse[r], coded)
    else:
        row = low.size // 2
        for begin in range(0, pairs.size, row):
            for at in range(0, row, LANES):
                codes_of_columns(pairs, begin + at, low, inverse, 2 * at, coded)


@part
def numbers(coded, by_row, low, step, pairs):
    """Fill `pairs` of numbers for `coded`; only where `tame`."""
    if by_row:
        row = pairs.size // low.size
        for r in range(low.size):
            for at in range(r * row, (r + 1) * row, LANES):
                numbers_of_row(coded, at, low[r], step[r], pairs)
    else:
        row = low.size // 2
        for begin in range(0, pairs.size, row):
            for at in range(0, row, LANES):
                numbers_of_columns(coded, begin + at, low, step, 2 * at, pairs)


@part
def tame(header):
    """Whether no number of a tile can round to infinity: low ends below 2**126, steps below 2**118."""
    groups = header.size // 2
    large = np.uint16(0)
    for g in range(groups):
        large |= np.uint16((header[g] & _MAGNITUDE) >= _LARGE_LOW)
    for g in range(groups, 2 * groups):
        large |= np.uint16((header[g] & _MAGNITUDE) >= _LARGE_STEP)
    return large == 0
