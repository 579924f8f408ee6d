"""Split numbers into the byte with the exponent, which is worth coding, and the rest, which is noise.

Of 16 bits s eeeeeeee mmmmmmm (bfloat16), or s eeeee mmm mmmmmmm (float16), the byte below the sign is split
off; sign and the lowest seven bits make a second byte. float32 keeps three bytes besides its exponent.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import numba
import numpy as np

from kernels.cpu.floats import PAGES
from kernels.cpu.jit import IN_U8, IN_U16, OUT_U8, OUT_U16, array, kernel, part
from kernels.pages import FLOAT32


@part
def _sign_and_mantissa(word):
    return np.uint8((word & np.uint16(127)) | ((word >> np.uint16(8)) & np.uint16(128)))


@part
def _word(exponent, byte):
    upper = (np.uint16(exponent + np.int16(127)) << np.uint16(7)) & np.uint16(0x7F80)
    lower = np.uint16(byte)
    return np.uint16(upper | (lower & np.uint16(127)) | ((lower & np.uint16(128)) << np.uint16(8)))


@kernel(IN_U16, PAGES, array(numba.int16, 2), OUT_U8, array(numba.int64, 2))
def split(memory, pages, exponents, rest, counts):
    """Fill `exponents` [blocks * heads * 2, tokens * dim] (byte - 127), `rest` (1 or 3 bytes per number), and
    count the exponent bytes of keys and of values in `counts` [2, 256], from zero."""
    size = pages.tokens * pages.dim
    words = 2 if pages.kind == FLOAT32 else 1
    width = 3 if pages.kind == FLOAT32 else 1
    counts[:] = 0
    for block in range(pages.blocks):
        for half in range(2 * pages.heads):
            place = (half // 2) * pages.head_stride + (half % 2) * pages.value_base
            begin = block * pages.stride + words * place
            source = memory[begin : begin + words * size]
            row = block * 2 * pages.heads + half
            high = exponents[row]
            low = rest[row * width * size : (row + 1) * width * size]
            if width == 1:
                for i in range(size):
                    high[i] = np.int16((source[i] >> np.uint16(7)) & np.uint16(255)) - np.int16(127)
                for i in range(size):
                    low[i] = _sign_and_mantissa(source[i])
            else:
                for i in range(size):
                    word = source[2 * i + 1]
                    high[i] = np.int16((word >> np.uint16(7)) & np.uint16(255)) - np.int16(127)
                    low[3 * i] = np.uint8(source[2 * i] & np.uint16(255))
                    low[3 * i + 1] = np.uint8(source[2 * i] >> np.uint16(8))
                    low[3 * i + 2] = _sign_and_mantissa(word)
            count = counts[half % 2]
            for i in range(size):
                count[np.uint16(high[i] + np.int16(127))] += 1
    return 0


@kernel(array(numba.int16, 2, readonly=True), IN_U8, PAGES, OUT_U16)
def join(exponents, rest, pages, memory):
    """Inverse of `split`; returns 0, or -1 for an exponent that no byte holds."""
    size = pages.tokens * pages.dim
    words = 2 if pages.kind == FLOAT32 else 1
    width = 3 if pages.kind == FLOAT32 else 1
    outside = np.int16(0)
    for block in range(pages.blocks):
        for half in range(2 * pages.heads):
            place = (half // 2) * pages.head_stride + (half % 2) * pages.value_base
            begin = block * pages.stride + words * place
            target = memory[begin : begin + words * size]
            row = block * 2 * pages.heads + half
            high = exponents[row]
            low = rest[row * width * size : (row + 1) * width * size]
            for i in range(size):
                outside |= np.int16(high[i] + np.int16(127)) & np.int16(-256)
            if width == 1:
                for i in range(size):
                    target[i] = _word(high[i], low[i])
            else:
                for i in range(size):
                    target[2 * i] = np.uint16(low[3 * i]) | (np.uint16(low[3 * i + 1]) << np.uint16(8))
                    target[2 * i + 1] = _word(high[i], low[3 * i + 2])
    return np.int64(0) if outside == 0 else np.int64(-1)
