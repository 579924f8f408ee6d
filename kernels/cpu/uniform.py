"""Uniform quantisation of tiles in memory order: one low end and one step per group.

Groups are KIVI's (2402.02750): a key group is one channel over the tokens of a block, a value group one
token over the channels of a head. Which of the two runs along memory depends on the page format; the kernels
walk memory in order. Low ends and steps are bfloat16, rounded outwards, so that every number lies between.

Per tile: lows [groups] uint16, steps [groups] uint16, codes packed from the low bits up.

The loops are short and plain, over two-dimensional windows, because that is what LLVM turns into vectors.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import numba
import numpy as np

from kernels.cpu import pairs
from kernels.cpu.floats import PAGES, load, store
from kernels.cpu.jit import IN_U8, IN_U16, OUT_U8, OUT_U16, kernel, part
from kernels.cpu.packing import pack, unpack
from kernels.pages import BFLOAT16, FLOAT32

_MIN_NORMAL = np.float32(2.0**-126)
_UPPER = np.uint32(0xFFFF0000)
_EXPONENT = np.uint32(0x7F800000)


def tile_bytes(groups: int, size: int, bits: int) -> int:
    """Bytes of an encoded tile."""
    return 4 * groups + (size * bits + 7) // 8


@part
def _ends_of_rows16(words, low, high):
    """Least and greatest word of each row, in the order of the floats whose bits they are.

    Flipping the lower bits of negative words makes integers compare like floats, and their minima vectorise.
    """
    rows, columns = words.shape
    for r in range(rows):
        least, most = np.int16(32767), np.int16(-32767)
        for c in range(columns):
            word = words[r, c]
            word = np.int16(word ^ np.int16((word >> np.int16(15)) & np.int16(0x7FFF)))
            least = min(least, word)
            most = max(most, word)
        low[r], high[r] = least, most


@part
def _ends_of_columns16(words, low, high):
    rows, columns = words.shape
    low[:columns] = np.int16(32767)
    high[:columns] = np.int16(-32767)
    for r in range(rows):
        for c in range(columns):
            word = words[r, c]
            word = np.int16(word ^ np.int16((word >> np.int16(15)) & np.int16(0x7FFF)))
            low[c] = min(low[c], word)
            high[c] = max(high[c], word)


@part
def _ends_of_rows32(words, low, high):
    rows, columns = words.shape
    for r in range(rows):
        least, most = np.int32(2147483647), np.int32(-2147483647)
        for c in range(columns):
            word = words[r, c]
            word = np.int32(word ^ np.int32((word >> np.int32(31)) & np.int32(0x7FFFFFFF)))
            least = min(least, word)
            most = max(most, word)
        low[r], high[r] = least, most


@part
def _ends_of_columns32(words, low, high):
    rows, columns = words.shape
    low[:columns] = np.int32(2147483647)
    high[:columns] = np.int32(-2147483647)
    for r in range(rows):
        for c in range(columns):
            word = words[r, c]
            word = np.int32(word ^ np.int32((word >> np.int32(31)) & np.int32(0x7FFFFFFF)))
            low[c] = min(low[c], word)
            high[c] = max(high[c], word)


@part
def _widen16(ordered, bits):
    for g in range(bits.size):
        word = np.int16(ordered[g] ^ np.int16((ordered[g] >> np.int16(15)) & np.int16(0x7FFF)))
        bits[g] = np.uint32(np.uint16(word)) << np.uint32(16)


@part
def _widen32(ordered, bits):
    for g in range(bits.size):
        bits[g] = np.uint32(
            np.int32(ordered[g] ^ np.int32((ordered[g] >> np.int32(31)) & np.int32(0x7FFFFFFF)))
        )


@part
def _steps(low_bits, step_bits, levels, header):
    """Turn (low, high) of each group into (rounded low, reciprocal step); returns whether all are finite."""
    groups = low_bits.size
    low, step = low_bits.view(np.float32), step_bits.view(np.float32)
    holes = np.uint32(0)
    for g in range(groups):
        # NaN and infinity are extremes in the order of bits.
        holes |= np.uint32((step_bits[g] & _EXPONENT) == _EXPONENT)
    for g in range(groups):
        word = low_bits[g]
        away = np.uint32(0xFFFF) if word >= np.uint32(0x80000000) else np.uint32(0)
        low_bits[g] = (word + away) & _UPPER
    share = np.float32(1) / levels
    for g in range(groups):
        wide = step[g] - low[g]
        step[g] = max(wide * share * np.float32(1 + 2.0**-20), _MIN_NORMAL) if wide > 0 else np.float32(0)
    for g in range(groups):
        step_bits[g] = (step_bits[g] + np.uint32(0xFFFF)) & _UPPER
        holes |= np.uint32((step_bits[g] & _EXPONENT) == _EXPONENT)
        holes |= np.uint32((low_bits[g] & _EXPONENT) == _EXPONENT)
    for g in range(groups):
        header[g] = np.uint16(low_bits[g] >> np.uint32(16))
    for g in range(groups):
        header[groups + g] = np.uint16(step_bits[g] >> np.uint32(16))
    for g in range(groups):
        step[g] = np.float32(1) / step[g] if step[g] > 0 else np.float32(0)
    return holes == 0


@part
def _codes_by_row(tile, low, inverse, codes):
    rows, columns = tile.shape
    for r in range(rows):
        base, scale = low[r], inverse[r]
        for c in range(columns):
            codes[r, c] = np.uint8(np.int32((tile[r, c] - base) * scale + np.float32(0.5)))


@part
def _codes_by_column(tile, low, inverse, codes):
    rows, columns = tile.shape
    for r in range(rows):
        for c in range(columns):
            codes[r, c] = np.uint8(np.int32((tile[r, c] - low[c]) * inverse[c] + np.float32(0.5)))


@part
def _numbers_by_row(codes, low, step, tile):
    rows, columns = tile.shape
    for r in range(rows):
        base, scale = low[r], step[r]
        for c in range(columns):
            tile[r, c] = base + scale * np.float32(codes[r, c])


@part
def _numbers_by_column(codes, low, step, tile):
    rows, columns = tile.shape
    for r in range(rows):
        for c in range(columns):
            tile[r, c] = low[c] + step[c] * np.float32(codes[r, c])


@kernel(IN_U16, PAGES, numba.int64, numba.int64, OUT_U8)
def quantise(memory, pages, key_bits, value_bits, out):
    """Quantise the pages of a layer; returns the bytes written, or -1 if a number is not finite or a group is
    wider than float32 can say.

    `out` holds blocks * heads tiles of keys and of values (`tile_bytes`), each head's keys before its values.
    """
    size = pages.tokens * pages.dim
    words = 2 if pages.kind == FLOAT32 else 1
    bits = np.empty(size, np.uint32)
    tile = bits.view(np.float32)
    most = max(pages.tokens, pages.dim)
    low_bits, step_bits = np.empty(most, np.uint32), np.empty(most, np.uint32)
    ends16, ends32 = np.empty((2, most), np.int16), np.empty((2, most), np.int32)
    codes = np.zeros((size + 15) // 8 * 8, np.uint8)
    at = 0
    for block in range(pages.blocks):
        for half in range(2 * pages.heads):
            values = half % 2
            place = (half // 2) * pages.head_stride + values * pages.value_base
            begin = block * pages.stride + words * place
            source = memory[begin : begin + words * size]
            across = pages.transposed == 1 and values == 0
            rows, columns = (pages.dim, pages.tokens) if across else (pages.tokens, pages.dim)
            by_row = values == 1 or across
            groups = rows if by_row else columns
            low, step = low_bits[:groups], step_bits[:groups]
            paired = pairs.fits(pages.kind, columns)
            if not paired:
                load(source, pages.kind, tile, bits)
            if pages.kind == BFLOAT16:
                flat = source.view(np.int16)
                if not by_row:
                    _ends_of_columns16(flat.reshape(rows, columns), ends16[0], ends16[1])
                elif paired:
                    pairs.ends_of_rows(flat, columns, ends16[0], ends16[1])
                else:
                    _ends_of_rows16(flat.reshape(rows, columns), ends16[0], ends16[1])
                _widen16(ends16[0], low)
                _widen16(ends16[1], step)
            else:
                wide = bits.view(np.int32).reshape(rows, columns)
                if by_row:
                    _ends_of_rows32(wide, ends32[0], ends32[1])
                else:
                    _ends_of_columns32(wide, ends32[0], ends32[1])
                _widen32(ends32[0], low)
                _widen32(ends32[1], step)
            width = value_bits if values else key_bits
            header = out[at : at + 4 * groups].view(np.uint16)
            if not _steps(low, step, np.float32((1 << width) - 1), header):
                return -1
            at += 4 * groups
            packed = (size * width + 7) // 8
            body = out[at : at + packed]
            at += packed
            base, inverse = low.view(np.float32), step.view(np.float32)
            # Codes of eight bits are the packed form: pairs go straight to it.
            direct = paired and width == 8
            if paired:
                coded = body if direct else codes[:size]
                pairs.codes(source.view(np.uint32), by_row, base, inverse, coded.view(np.uint16))
            elif by_row:
                _codes_by_row(tile.reshape(rows, columns), base, inverse, codes[:size].reshape(rows, columns))
            else:
                _codes_by_column(
                    tile.reshape(rows, columns), base, inverse, codes[:size].reshape(rows, columns)
                )
            if not direct:
                pack(codes, size, width, body)
    return at


@kernel(IN_U8, PAGES, numba.int64, numba.int64, OUT_U16)
def dequantise(data, pages, key_bits, value_bits, memory):
    """Inverse of `quantise`; returns the bytes read. `data` must have all the bytes of these pages."""
    size = pages.tokens * pages.dim
    words = 2 if pages.kind == FLOAT32 else 1
    bits = np.empty(size, np.uint32)
    tile = bits.view(np.float32)
    most = max(pages.tokens, pages.dim)
    low_bits, step_bits = np.empty(most, np.uint32), np.empty(most, np.uint32)
    codes = np.zeros((size + 15) // 8 * 8, np.uint8)
    at = 0
    for block in range(pages.blocks):
        for half in range(2 * pages.heads):
            values = half % 2
            place = (half // 2) * pages.head_stride + values * pages.value_base
            begin = block * pages.stride + words * place
            across = pages.transposed == 1 and values == 0
            rows, columns = (pages.dim, pages.tokens) if across else (pages.tokens, pages.dim)
            by_row = values == 1 or across
            groups = rows if by_row else columns
            header = data[at : at + 4 * groups].view(np.uint16)
            for g in range(groups):
                low_bits[g] = np.uint32(header[g]) << np.uint32(16)
            for g in range(groups):
                step_bits[g] = np.uint32(header[groups + g]) << np.uint32(16)
            at += 4 * groups
            width = value_bits if values else key_bits
            packed = (size * width + 7) // 8
            body = data[at : at + packed]
            at += packed
            base, step = low_bits[:groups].view(np.float32), step_bits[:groups].view(np.float32)
            target = memory[begin : begin + words * size]
            paired = pairs.fits(pages.kind, columns) and pairs.tame(header)
            if paired and width == 8:
                pairs.numbers(body.view(np.uint16), by_row, base, step, target.view(np.uint32))
                continue
            unpack(body, size, width, codes)
            coded = codes[:size]
            if paired:
                pairs.numbers(coded.view(np.uint16), by_row, base, step, target.view(np.uint32))
                continue
            if by_row:
                _numbers_by_row(coded.reshape(rows, columns), base, step, tile.reshape(rows, columns))
            else:
                _numbers_by_column(coded.reshape(rows, columns), base, step, tile.reshape(rows, columns))
            store(tile, bits, pages.kind, target)
    return at
