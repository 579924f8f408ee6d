"""Parts of kernels: tiles of bfloat16, float16 or float32 bits to float32 numbers and back.

Numbers travel in a scratch array of which the caller holds two views, one of float32, one of uint32.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import numba
import numpy as np

from kernels.cpu.jit import part
from kernels.pages import BFLOAT16, FLOAT32, Pages

PAGES = numba.types.NamedUniTuple(numba.int64, len(Pages._fields), Pages)
"""Type of a `Pages` argument."""

_EXPONENT = np.uint32(0x7F800000)
_SIGN = np.uint32(0x80000000)


@part
def load(words, kind, numbers, bits):
    """Read all `words` of a tile."""
    size = bits.size
    if kind == BFLOAT16:
        for i in range(size):
            bits[i] = np.uint32(words[i]) << np.uint32(16)
    elif kind == FLOAT32:
        for i in range(size):
            bits[i] = np.uint32(words[2 * i]) | (np.uint32(words[2 * i + 1]) << np.uint32(16))
    else:
        # The bits of a half, moved to their places in a float, make a number that is 2**112 too small.
        for i in range(size):
            half = np.uint32(words[i])
            special = _EXPONENT if (half & np.uint32(0x7C00)) == np.uint32(0x7C00) else np.uint32(0)
            bits[i] = ((half & np.uint32(0x7FFF)) << np.uint32(13)) | special
        for i in range(size):
            numbers[i] *= np.float32(2.0**112)
        for i in range(size):
            bits[i] |= (np.uint32(words[i]) & np.uint32(0x8000)) << np.uint32(16)


@part
def finite(bits):
    """Whether all numbers are neither NaN nor infinite."""
    holes = np.uint32(0)
    for i in range(bits.size):
        holes |= np.uint32((bits[i] & _EXPONENT) == _EXPONENT)
    return holes == 0


@part
def store(numbers, bits, kind, words):
    """Write finite numbers as `words`, rounded to nearest even but never to infinity. Changes the scratch."""
    size = bits.size
    if kind == BFLOAT16:
        for i in range(size):
            word = bits[i]
            rounded = (word + np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
            over = np.uint32((rounded & np.uint32(0x7FFF)) >= np.uint32(0x7F80))
            words[i] = np.uint16(rounded - over)
    elif kind == FLOAT32:
        for i in range(size):
            words[2 * i] = np.uint16(bits[i] & np.uint32(0xFFFF))
            words[2 * i + 1] = np.uint16(bits[i] >> np.uint32(16))
    else:
        for i in range(size):
            words[i] = np.uint16((bits[i] & _SIGN) >> np.uint32(16))
            numbers[i] = min(abs(numbers[i]), np.float32(65504.0))
        for i in range(size):
            # Below 2**-14 a half counts in steps of 2**-24.
            small = np.uint32(np.rint(min(numbers[i], np.float32(1)) * np.float32(2.0**24)))
            word = bits[i]
            word += np.uint32(0xFFF) + ((word >> np.uint32(13)) & np.uint32(1))
            normal = (word - np.uint32(112 << 23)) >> np.uint32(13)
            words[i] |= np.uint16(small if numbers[i] < np.float32(2.0**-14) else normal)
