"""What the machine offers to workers: cores this process may use, free memory, GPUs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TOPOLOGY = Path("/sys/devices/system/cpu")
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a machine has for workers."""

    cores: int
    """Physical cores, hyper-threads counted once."""
    free_bytes: int
    gpus: int
    """NVIDIA GPUs that workers run on."""

    @classmethod
    def detect(cls, gpus: int = 0) -> Hardware:
        """This machine, with so many GPUs (`engine_adapter.launch.nvidia.look` finds them)."""
        return cls(physical_cores(), free_memory(), gpus)


def physical_cores() -> int:
    """Physical cores among the CPUs this process may run on."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores: set[str] = set()
    for cpu in os.sched_getaffinity(0):
        try:
            cores.add((_TOPOLOGY / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip())
        except OSError:
            cores.add(str(cpu))
    return len(cores)


def free_memory(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int:
    """Bytes that programs may still take, respecting the limit of this control group (containers).

    Where the system does not tell what is free (no /proc), half of its memory.
    """
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, max(int(limit) - used, 0))


def total_memory(cgroup: Path = _CGROUP) -> int:
    """Bytes of memory of the machine, or of this control group if it may take less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(total, int((cgroup / "memory.max").read_text()))
    except (OSError, ValueError):
        return total
