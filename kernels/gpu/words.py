"""Parts of kernels: 16-bit words of bfloat16, float16 or float32 numbers to float32 and back."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import triton
import triton.language as tl

BFLOAT16 = tl.constexpr(0)
FLOAT16 = tl.constexpr(1)


@triton.jit
def load(memory, places, KIND: tl.constexpr):
    """Numbers whose first word is at each place."""
    if KIND == BFLOAT16:
        bits = tl.load(memory + places).to(tl.uint16, bitcast=True).to(tl.uint32) << 16
        return bits.to(tl.float32, bitcast=True)
    elif KIND == FLOAT16:
        return tl.load(memory + places).to(tl.float16, bitcast=True).to(tl.float32)
    else:
        low = tl.load(memory + places).to(tl.uint16, bitcast=True).to(tl.uint32)
        high = tl.load(memory + places + 1).to(tl.uint16, bitcast=True).to(tl.uint32)
        return (low | (high << 16)).to(tl.float32, bitcast=True)


@triton.jit
def store(memory, places, numbers, KIND: tl.constexpr):
    """Write numbers, rounded to nearest even, never to infinity."""
    if KIND == BFLOAT16:
        bits = numbers.to(tl.uint32, bitcast=True)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        rounded = tl.where((rounded & 0x7FFF) >= 0x7F80, rounded - 1, rounded)
        tl.store(memory + places, rounded.to(tl.uint16).to(tl.int16, bitcast=True))
    elif KIND == FLOAT16:
        bounded = tl.minimum(tl.maximum(numbers, -65504.0), 65504.0)
        tl.store(memory + places, bounded.to(tl.float16).to(tl.int16, bitcast=True))
    else:
        bits = numbers.to(tl.uint32, bitcast=True)
        tl.store(memory + places, (bits & 0xFFFF).to(tl.uint16).to(tl.int16, bitcast=True))
        tl.store(memory + places + 1, (bits >> 16).to(tl.uint16).to(tl.int16, bitcast=True))


@triton.jit
def holes(numbers):
    """1 where a number is NaN or infinite, else 0."""
    bits = numbers.to(tl.uint32, bitcast=True)
    return ((bits & 0x7F800000) == 0x7F800000).to(tl.int32)
