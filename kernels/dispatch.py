"""The kernels by name, for data in host memory.

Importing this module compiles the CPU kernels, or reads what an earlier process has compiled; `warm_up` is
the same under a name that says so. Kernels for data in GPU memory have the same names in `kernels.gpu`.
"""

from __future__ import annotations

from collections.abc import Callable

from kernels.cpu import coefficients, exponents, fp8, rans, tokens, uniform
from kernels.cpu.rans import frequencies, slots_of, starts_of

__all__ = [
    "decode",
    "dequantise",
    "encode",
    "frequencies",
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

Kernel = Callable[..., int]
"""A compiled function: arguments, and what the number means, are in its docstring."""

quantise: Kernel = uniform.quantise
dequantise: Kernel = uniform.dequantise
to_fp8: Kernel = fp8.to_fp8
from_fp8: Kernel = fp8.from_fp8
split: Kernel = exponents.split
join: Kernel = exponents.join
read_tokens: Kernel = tokens.read_tokens
write_tokens: Kernel = tokens.write_tokens
to_levels: Kernel = coefficients.to_levels
from_levels: Kernel = coefficients.from_levels
encode: Kernel = rans.encode
decode: Kernel = rans.decode


def warm_up() -> None:
    """Make sure that every kernel is compiled: call it at start-up, so that no request waits for it."""
