"""How every CPU kernel is compiled: ahead, for one signature, cached on disk, without the GIL.

Array arguments are C-contiguous. Inputs are declared read-only, which also accepts writable arrays; nothing
is compiled when a kernel is called. numba does not check bounds: a kernel that follows offsets found in its
input compares them with the sizes of its arrays first.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def array(dtype: Any, dimensions: int, *, readonly: bool = False) -> Any:
    """Type of a C-contiguous array."""
    return numba.types.Array(dtype, dimensions, "C", readonly=readonly)


_I64 = numba.int64
IN_U8, OUT_U8 = array(numba.uint8, 1, readonly=True), array(numba.uint8, 1)
IN_U16, OUT_U16 = array(numba.uint16, 1, readonly=True), array(numba.uint16, 1)


def kernel(*arguments: Any, returns: Any = _I64) -> Callable[[F], F]:
    """Decorator: compile for these argument types now, or read what an earlier process has compiled."""

    def compiled(function: F) -> F:
        with _cached_here():
            made: F = numba.njit(returns(*arguments), cache=True, nogil=True, error_model="numpy")(function)
        return made

    return compiled


def part(function: F) -> F:
    """Decorator: a function that kernels call; compiled into them."""
    made: F = numba.njit(nogil=True, error_model="numpy")(function)
    return made


@cache
def _cache_folder() -> Path:
    """Where compiled kernels are kept. numba compares only the file of a kernel with what it has cached, not
    the files of its parts, so the folder's name covers all of them."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    digest = hashlib.blake2b(b"".join(path.read_bytes() for path in sources), digest_size=8).hexdigest()
    beside = Path(__file__).parent / "__pycache__"
    wanted = os.environ.get("NUMBA_CACHE_DIR")
    if wanted:
        return Path(wanted) / digest
    if os.access(beside if beside.exists() else beside.parent, os.W_OK):
        return beside / digest
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sluice" / "kernels" / digest


@contextmanager
def _cached_here() -> Iterator[None]:
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(_cache_folder())
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before
