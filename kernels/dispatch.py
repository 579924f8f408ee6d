"""The kernels by name, from the machine's best implementation for data in host memory.

Importing this module compiles the CPU kernels, or reads what an earlier process has compiled; `warm_up` is
the same under a name that says so. Triton kernels for data in GPU memory are in `kernels.gpu`.
"""

from __future__ import annotations

from kernels.cpu.coefficients import from_levels, to_levels
from kernels.cpu.exponents import join, split
from kernels.cpu.fp8 import from_fp8, to_fp8
from kernels.cpu.rans import decode, encode, slots_of, starts_of
from kernels.cpu.tokens import read_tokens, write_tokens
from kernels.cpu.uniform import dequantise, quantise

__all__ = [
    "decode",
    "dequantise",
    "encode",
    "from_fp8",
    "from_levels",
    "join",
    "quantise",
    "read_tokens",
    "slots_of",
    "split",
    "starts_of",
    "to_fp8",
    "to_levels",
    "warm_up",
    "write_tokens",
]


def warm_up() -> None:
    """Make sure that every kernel is compiled: call it at start-up, so that no request waits for it."""
