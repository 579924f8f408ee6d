"""Uniform quantisation of tiles, byte for byte as `kernels.cpu.uniform`, for widths of 2, 4 and 8 bits."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.gpu.words import holes, load, store
from kernels.pages import Pages


def quantise(memory: Tensor, pages: Pages, key_bits: int, value_bits: int, out: Tensor) -> Tensor:
    """Quantise the pages of a layer: `memory` int16 words, `out` uint8. Returns an int32 tensor of one
    element, not zero if a number was not finite."""
    wrong = torch.zeros(1, dtype=torch.int32, device=memory.device)
    sizes = _sizes(pages, key_bits, value_bits)
    for half, bits in ((0, key_bits), (1, value_bits)):
        rows, columns, by_row = _shape(pages, half)
        _quantise[(pages.blocks * pages.heads,)](
            memory, out, wrong, pages.stride, pages.head_stride, half * pages.value_base, pages.heads,
            sum(sizes), half * sizes[0], KIND=pages.kind, WORDS=pages.words, ROWS=rows, COLUMNS=columns,
            BY_ROW=by_row, BITS=bits,
        )  # fmt: skip
    return wrong


def dequantise(data: Tensor, pages: Pages, key_bits: int, value_bits: int, memory: Tensor) -> None:
    """Inverse of `quantise`; `data` must have all the bytes of these pages."""
    sizes = _sizes(pages, key_bits, value_bits)
    if data.numel() != sum(sizes) * pages.blocks * pages.heads:
        raise ValueError(f"{data.numel()} bytes are not what these pages take")
    for half, bits in ((0, key_bits), (1, value_bits)):
        rows, columns, by_row = _shape(pages, half)
        _dequantise[(pages.blocks * pages.heads,)](
            data, memory, pages.stride, pages.head_stride, half * pages.value_base, pages.heads,
            sum(sizes), half * sizes[0], KIND=pages.kind, WORDS=pages.words, ROWS=rows, COLUMNS=columns,
            BY_ROW=by_row, BITS=bits,
        )  # fmt: skip


def _shape(pages: Pages, half: int) -> tuple[int, int, bool]:
    across = bool(pages.transposed) and half == 0
    rows, columns = (pages.dim, pages.tokens) if across else (pages.tokens, pages.dim)
    if rows & (rows - 1) or columns & (columns - 1):
        raise ValueError(f"tiles of {rows} by {columns} are not powers of two: use the CPU kernels")
    return rows, columns, half == 1 or across


def _sizes(pages: Pages, key_bits: int, value_bits: int) -> tuple[int, int]:
    if not {key_bits, value_bits} <= {2, 4, 8}:
        raise ValueError(
            f"the GPU packs 2, 4 and 8 bits, not {key_bits} and {value_bits}: use the CPU kernels"
        )
    return 4 * pages.dim + pages.tile * key_bits // 8, 4 * pages.tokens + pages.tile * value_bits // 8


@triton.jit
def _outward(numbers, UP: tl.constexpr):
    bits = numbers.to(tl.uint32, bitcast=True)
    away = ((bits >> 31) == 0) if UP else ((bits >> 31) == 1)
    return ((bits + tl.where(away, 0xFFFF, 0).to(tl.uint32)) & 0xFFFF0000).to(tl.float32, bitcast=True)


@triton.jit
def _put_half(out, places, numbers):
    word = numbers.to(tl.uint32, bitcast=True) >> 16
    tl.store(out + places, (word & 255).to(tl.uint8))
    tl.store(out + places + 1, (word >> 8).to(tl.uint8))


@triton.jit
def _quantise(
    memory, out, wrong, stride, head_stride, base, heads, entry, offset,
    KIND: tl.constexpr, WORDS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    BY_ROW: tl.constexpr, BITS: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0).to(tl.int64)
    begin = (tile // heads) * stride + WORDS * ((tile % heads) * head_stride + base)
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    numbers = load(memory, begin + WORDS * (row * COLUMNS + column), KIND)
    AXIS: tl.constexpr = 1 if BY_ROW else 0
    GROUPS: tl.constexpr = ROWS if BY_ROW else COLUMNS
    broken = tl.max(tl.max(holes(numbers), axis=1), axis=0)
    low = _outward(tl.min(numbers, axis=AXIS), False)
    wide = tl.max(numbers, axis=AXIS) - low
    LEVELS: tl.constexpr = (1 << BITS) - 1
    share = 1.0 / tl.full([GROUPS], LEVELS, tl.float32)
    step = tl.maximum(wide * share * 1.00000095367431640625, 1.1754943508222875e-38)
    step = tl.where(wide > 0, _outward(step, True), 0.0)
    broken += tl.max(holes(step) + holes(low), axis=0)
    tl.atomic_max(wrong, broken)
    at = out + tile * entry + offset
    group = tl.arange(0, GROUPS)
    _put_half(at, 2 * group, low)
    _put_half(at, 2 * GROUPS + 2 * group, step)
    inverse = tl.where(step > 0, 1.0 / tl.where(step > 0, step, 1.0), 0.0)
    if BY_ROW:
        codes = (numbers - low[:, None]) * inverse[:, None] + 0.5
    else:
        codes = (numbers - low[None, :]) * inverse[None, :] + 0.5
    PER: tl.constexpr = 8 // BITS
    parts = tl.reshape(codes.to(tl.int32), [ROWS * COLUMNS // PER, PER])
    packed = tl.sum(parts << (BITS * tl.arange(0, PER))[None, :], axis=1)
    tl.store(at + 4 * GROUPS + tl.arange(0, ROWS * COLUMNS // PER), packed.to(tl.uint8))


@triton.jit
def _get_half(data, places):
    word = tl.load(data + places).to(tl.uint32) | (tl.load(data + places + 1).to(tl.uint32) << 8)
    return (word << 16).to(tl.float32, bitcast=True)


@triton.jit
def _dequantise(
    data, memory, stride, head_stride, base, heads, entry, offset,
    KIND: tl.constexpr, WORDS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    BY_ROW: tl.constexpr, BITS: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0).to(tl.int64)
    GROUPS: tl.constexpr = ROWS if BY_ROW else COLUMNS
    PER: tl.constexpr = 8 // BITS
    MASK: tl.constexpr = (1 << BITS) - 1
    at = data + tile * entry + offset
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    place = row * COLUMNS + column
    group = row if BY_ROW else column
    low, step = _get_half(at, 2 * group), _get_half(at, 2 * GROUPS + 2 * group)
    byte = tl.load(at + 4 * GROUPS + place // PER).to(tl.uint32)
    codes = (byte >> ((place % PER) * BITS).to(tl.uint32)) & MASK
    begin = (tile // heads) * stride + WORDS * ((tile % heads) * head_stride + base)
    store(memory, begin + WORDS * place, low + step * codes.to(tl.float32), KIND)
