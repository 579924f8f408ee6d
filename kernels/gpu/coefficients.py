"""Dead-zone quantisation of coefficients: `kernels.cpu.coefficients` on a GPU."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024


def to_levels(coefficients: Tensor, rounding: float, levels: Tensor) -> Tensor:
    """sign(x) * floor(|x| + rounding) as int16; returns an int32 tensor of one element, not zero if a
    coefficient was NaN or beyond 32000."""
    wrong = torch.zeros(1, dtype=torch.int32, device=coefficients.device)
    number = coefficients.numel()
    _to_levels[(triton.cdiv(number, _BLOCK),)](coefficients, levels, wrong, rounding, number, BLOCK=_BLOCK)
    return wrong


def from_levels(levels: Tensor, one: float, more: float, coefficients: Tensor) -> None:
    """Numbers for levels: magnitude 1 stands for 1 + `one`, a greater m for m + `more`."""
    number = levels.numel()
    _from_levels[(triton.cdiv(number, _BLOCK),)](levels, coefficients, one, more, number, BLOCK=_BLOCK)


@triton.jit
def _to_levels(coefficients, levels, wrong, rounding, number, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(coefficients + i, mask=i < number, other=0.0)
    size = (tl.minimum(tl.abs(x), 32000.0) + rounding).to(tl.int32)
    tl.atomic_max(wrong, tl.max(tl.where(tl.abs(x) < 32000.0, 0, 1), axis=0))
    tl.store(levels + i, tl.where(x < 0, -size, size).to(tl.int16), mask=i < number)


@triton.jit
def _from_levels(levels, coefficients, one, more, number, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    level = tl.load(levels + i, mask=i < number, other=0).to(tl.float32)
    size = tl.abs(level)
    size = tl.where(size == 0, 0.0, tl.where(size == 1, size + one, size + more))
    tl.store(coefficients + i, tl.where(level < 0, -size, size), mask=i < number)
