"""Compile every launch of the GPU kernels' tests to machine code, for GPUs that are not here.

A plugin of pytest: what a test launches is compiled and not run, its memory is set to zeros, and its
assertions do not count. Triton's interpreter, in which those tests run without a GPU, accepts what the
compiler does not.

    TRITON_INTERPRET=0 pytest tests/unit/kernels/test_gpu.py -p tests.unit.kernels.compile_launches
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

ARCHITECTURES = (75, 80, 90, 100, 120)
"""Turing, Ampere, Hopper and two of Blackwell: those that vLLM's torch has kernels for."""
POINTERS = {
    torch.uint8: "*u8",
    torch.int16: "*i16",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.float32: "*fp32",
}
_compiled: set[str] = set()


def _type_of(value: Any, constant: bool) -> str:
    """As Triton types an argument of a launch; the number 1 becomes a constant, None always is one."""
    if constant or value is None or (type(value) is int and value == 1):
        return "constexpr"
    if isinstance(value, torch.Tensor):
        return POINTERS[value.dtype]
    if isinstance(value, float):
        return "fp32"
    return "i32" if -(2**31) <= value < 2**31 else "i64"


def _compile(kernel: Any, *arguments: Any, grid: object = None, warmup: bool = False, **named: Any) -> None:
    values = dict(zip(kernel.arg_names, arguments, strict=False)) | named
    types = {p.name: _type_of(values.get(p.name), p.is_constexpr) for p in kernel.params}
    constants = {
        (place,): values.get(name)
        for place, name in enumerate(kernel.arg_names)
        if types[name] == "constexpr"
    }
    for architecture in ARCHITECTURES:
        key = f"{kernel.fn.__name__} {types} {constants} {architecture}"
        if key not in _compiled:
            triton.compile(ASTSource(kernel, types, constants), target=GPUTarget("cuda", architecture, 32))
            _compiled.add(key)
    for value in values.values():
        if isinstance(value, torch.Tensor):
            value.zero_()


JITFunction.run = _compile


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Run a test for what it launches."""
    names = pyfuncitem._fixtureinfo.argnames
    with contextlib.suppress(AssertionError):
        pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    return True


def pytest_terminal_summary(terminalreporter: Any) -> None:
    targets = ", ".join(f"sm_{architecture}" for architecture in ARCHITECTURES)
    terminalreporter.write_line(f"{len(_compiled)} compilations of GPU kernels, for {targets}")
