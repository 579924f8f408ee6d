"""float8 (e4m3, no infinities) with one float32 scale per tile that puts its largest number at 448."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import numpy as np

from kernels.cpu.floats import PAGES, finite, load, store
from kernels.cpu.jit import IN_U8, IN_U16, OUT_U8, OUT_U16, kernel, part
from kernels.pages import FLOAT32

LARGEST = 448.0
HEADER_BYTES = 4
_MAGNITUDE = np.uint32(0x7FFFFFFF)


@part
def _narrow(numbers, bits, inverse, out):
    for i in range(numbers.size):
        out[i] = np.uint8((bits[i] >> np.uint32(24)) & np.uint32(0x80))
        numbers[i] = min(abs(numbers[i] * inverse), np.float32(LARGEST))
    for i in range(numbers.size):
        # Below 2**-6 numbers count in steps of 2**-9.
        small = np.uint32(np.rint(min(numbers[i], np.float32(1)) * np.float32(512)))
        word = bits[i]
        word += np.uint32(0x7FFFF) + ((word >> np.uint32(20)) & np.uint32(1))
        normal = (word >> np.uint32(20)) - np.uint32(120 << 3)
        out[i] |= np.uint8(small if numbers[i] < np.float32(2.0**-6) else normal)


@part
def _widen(codes, scale, numbers, bits):
    # The bits of an e4m3, moved to their places in a float, make a number that is 2**120 too small.
    for i in range(codes.size):
        code = np.uint32(codes[i])
        bits[i] = ((code & np.uint32(0x80)) << np.uint32(24)) | ((code & np.uint32(0x7F)) << np.uint32(20))
    for i in range(codes.size):
        numbers[i] = numbers[i] * np.float32(2.0**120) * scale


@kernel(IN_U16, PAGES, OUT_U8)
def to_fp8(memory, pages, out):
    """Write scale and codes of every tile, each head's keys before its values; returns the bytes, or -1 if a
    number is not finite."""
    size = pages.tokens * pages.dim
    words = 2 if pages.kind == FLOAT32 else 1
    bits = np.empty(size, np.uint32)
    tile = bits.view(np.float32)
    scale = np.empty(1, np.float32)
    at = 0
    for block in range(pages.blocks):
        for half in range(2 * pages.heads):
            place = (half // 2) * pages.head_stride + (half % 2) * pages.value_base
            begin = block * pages.stride + words * place
            load(memory[begin : begin + words * size], pages.kind, tile, bits)
            if not finite(bits):
                return -1
            most = np.uint32(0)
            for i in range(size):
                most = max(most, bits[i] & _MAGNITUDE)
            scale.view(np.uint32)[0] = most
            # Denormal scales would have infinite reciprocals.
            scale[0] = max(scale[0] / np.float32(LARGEST), np.float32(2.0**-126))
            out[at : at + HEADER_BYTES] = scale.view(np.uint8)
            at += HEADER_BYTES
            _narrow(tile, bits, np.float32(1) / scale[0], out[at : at + size])
            at += size
    return at


@kernel(IN_U8, PAGES, OUT_U16)
def from_fp8(data, pages, memory):
    """Inverse of `to_fp8`; returns the bytes read, or -1 for a scale or code that `to_fp8` does not write.

    `data` must have all the bytes of these pages.
    """
    size = pages.tokens * pages.dim
    words = 2 if pages.kind == FLOAT32 else 1
    bits = np.empty(size, np.uint32)
    tile = bits.view(np.float32)
    scale = np.empty(1, np.float32)
    at = 0
    for block in range(pages.blocks):
        for half in range(2 * pages.heads):
            place = (half // 2) * pages.head_stride + (half % 2) * pages.value_base
            begin = block * pages.stride + words * place
            scale.view(np.uint8)[:] = data[at : at + HEADER_BYTES]
            at += HEADER_BYTES
            if not (scale[0] > 0 and scale[0] <= np.float32(3.4028235e38 / LARGEST)):
                return -1
            _widen(data[at : at + size], scale[0], tile, bits)
            store(tile, bits, pages.kind, memory[begin : begin + words * size])
            at += size
    return at
