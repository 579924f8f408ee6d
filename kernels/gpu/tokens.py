"""Gather pages as rows per token without RoPE, and scatter them back: `kernels.cpu.tokens` on a GPU."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.gpu.words import holes, load, store
from kernels.pages import Pages


def read_tokens(memory: Tensor, pages: Pages, cosine: Tensor, sine: Tensor, out: Tensor) -> Tensor:
    """Fill `out` float32 [blocks * tokens, 2 * heads * dim]; returns an int32 tensor of one element, not zero
    if a number was not finite. `cosine` and `sine` are float32 [blocks * tokens, rotated channels / 2]."""
    wrong = torch.zeros(1, dtype=torch.int32, device=memory.device)
    _read[(pages.blocks * pages.heads, 2)](memory, cosine, sine, out, wrong, **_arguments(pages, cosine))
    return wrong


def write_tokens(rows: Tensor, pages: Pages, cosine: Tensor, sine: Tensor, memory: Tensor) -> Tensor:
    """Inverse of `read_tokens`; leaves `rows` as they are."""
    wrong = torch.zeros(1, dtype=torch.int32, device=memory.device)
    _write[(pages.blocks * pages.heads, 2)](memory, cosine, sine, rows, wrong, **_arguments(pages, cosine))
    return wrong


def _arguments(pages: Pages, cosine: Tensor) -> dict[str, int]:
    if pages.tokens & (pages.tokens - 1) or pages.dim & (pages.dim - 1):
        raise ValueError(f"tiles of {pages.tokens} by {pages.dim} are not powers of two: use the CPU kernels")
    return {
        "stride": pages.stride,
        "head_stride": pages.head_stride,
        "value_base": pages.value_base,
        "heads": pages.heads,
        "TRANSPOSED": pages.transposed,
        "HALF": cosine.shape[1],
        "KIND": pages.kind,
        "WORDS": pages.words,
        "TOKENS": pages.tokens,
        "DIM": pages.dim,
    }


@triton.jit
def _turned(numbers, others, cosine, sine, token, channel, direction, HALF: tl.constexpr):
    """Half-rotated RoPE: `others` holds each channel's partner."""
    turns = channel < 2 * HALF
    angle = token * HALF + tl.where(channel < HALF, channel, channel - HALF)
    c = tl.load(cosine + angle, mask=turns, other=1.0)
    s = tl.load(sine + angle, mask=turns, other=0.0)
    return numbers * c + tl.where(channel < HALF, -others, others) * s * direction


@triton.jit
def _partner(channel, HALF: tl.constexpr):
    return tl.where(channel < HALF, channel + HALF, tl.where(channel < 2 * HALF, channel - HALF, channel))


@triton.jit
def _read(
    memory, cosine, sine, out, wrong, stride, head_stride, value_base, heads,
    TRANSPOSED: tl.constexpr, HALF: tl.constexpr, KIND: tl.constexpr, WORDS: tl.constexpr,
    TOKENS: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    tile, values = tl.program_id(0).to(tl.int64), tl.program_id(1)
    block, head = tile // heads, tile % heads
    begin = block * stride + WORDS * (head * head_stride + values * value_base)
    t, d = tl.arange(0, TOKENS)[:, None], tl.arange(0, DIM)[None, :]
    across = (TRANSPOSED != 0) & (values == 0)
    step_t, step_d = tl.where(across, 1, DIM), tl.where(across, TOKENS, 1)
    numbers = load(memory, begin + WORDS * (t * step_t + d * step_d), KIND)
    tl.atomic_max(wrong, tl.max(tl.max(holes(numbers), axis=1), axis=0))
    if HALF > 0 and values == 0:
        others = load(memory, begin + WORDS * (t * step_t + _partner(d, HALF) * step_d), KIND)
        numbers = _turned(numbers, others, cosine, sine, block * TOKENS + t, d, -1.0, HALF)
    row = (block * TOKENS + t) * (2 * heads * DIM)
    tl.store(out + row + (head + values * heads) * DIM + d, numbers)


@triton.jit
def _write(
    memory, cosine, sine, rows, wrong, stride, head_stride, value_base, heads,
    TRANSPOSED: tl.constexpr, HALF: tl.constexpr, KIND: tl.constexpr, WORDS: tl.constexpr,
    TOKENS: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    tile, values = tl.program_id(0).to(tl.int64), tl.program_id(1)
    block, head = tile // heads, tile % heads
    t, d = tl.arange(0, TOKENS)[:, None], tl.arange(0, DIM)[None, :]
    row = (block * TOKENS + t) * (2 * heads * DIM) + (head + values * heads) * DIM
    numbers = tl.load(rows + row + d)
    if HALF > 0 and values == 0:
        others = tl.load(rows + row + _partner(d, HALF))
        numbers = _turned(numbers, others, cosine, sine, block * TOKENS + t, d, 1.0, HALF)
    tl.atomic_max(wrong, tl.max(tl.max(holes(numbers), axis=1), axis=0))
    begin = block * stride + WORDS * (head * head_stride + values * value_base)
    across = (TRANSPOSED != 0) & (values == 0)
    step_t, step_d = tl.where(across, 1, DIM), tl.where(across, TOKENS, 1)
    store(memory, begin + WORDS * (t * step_t + d * step_d), numbers, KIND)
