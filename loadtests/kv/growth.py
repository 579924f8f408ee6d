"""Whose memory grows: what Python, the C allocator and the kernel each say that a process has."""

from __future__ import annotations

import ctypes
import gc
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import NamedTuple

MIB = 1 << 20
ROOT = Path(__file__).parents[2]
OURS = ("cache", "engine_adapter", "loadtests")


class _MallInfo2(ctypes.Structure):
    """glibc's `struct mallinfo2`, in bytes where no other unit is meant."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


class Holdings(NamedTuple):
    """Of this process now."""

    private_mib: float
    """What the kernel counts: without what is shared, such as the arena."""
    python_blocks: int
    """Memory blocks that Python objects are in."""
    malloc_mib: float
    """What C and C++ (torch, oneDNN, large Python objects) have asked for and not given back."""
    malloc_idle_mib: float
    """What the C allocator keeps beside that, between what is in use: fragments."""


def holdings() -> Holdings:
    """After a collection, and after the C allocator has given back what it can."""
    gc.collect()
    libc = ctypes.CDLL(None)
    libc.malloc_trim(0)
    status = Path("/proc/self/status").read_text()
    private = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    libc.mallinfo2.restype = _MallInfo2
    info = libc.mallinfo2()
    return Holdings(
        int(private.split()[1]) / 1024,
        sys.getallocatedblocks(),
        (info.uordblks + info.hblkhd) / MIB,
        info.fordblks / MIB,
    )


def by_room() -> Counter[str]:
    """Bytes of living Python objects by the file of ours, or else the package, whose code asked for them.
    For `tracemalloc`, which has to run."""
    found: Counter[str] = Counter()
    for statistic in tracemalloc.take_snapshot().statistics("filename"):
        path = Path(statistic.traceback[0].filename)
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in OURS:
            name = str(path.relative_to(ROOT))
        else:
            parts = path.parts
            at = parts.index("site-packages") if "site-packages" in parts else len(parts) - 2
            name = parts[at + 1]
        found[name] += statistic.size
    return found
