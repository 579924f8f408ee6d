"""What the machine offers to workers: cores this process may use, free memory, NVIDIA GPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_TOPOLOGY = Path("/sys/devices/system/cpu")
_DRIVER = Path("/proc/driver/nvidia/version")
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Hardware:
    cores: int
    """Physical cores, hyper-threads counted once."""
    free_bytes: int
    gpus: int

    @classmethod
    def detect(cls) -> Hardware:
        return cls(physical_cores(), free_memory(), nvidia_gpus())


def physical_cores() -> int:
    """Physical cores among the CPUs this process may run on."""
    cores: set[str] = set()
    for cpu in os.sched_getaffinity(0):
        try:
            cores.add((_TOPOLOGY / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip())
        except OSError:
            cores.add(str(cpu))
    return len(cores)


def free_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = _CGROUP) -> int:
    """Bytes that programs may still take, respecting the limit of this control group (containers)."""
    free = 0
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, max(int(limit) - used, 0))


def nvidia_gpus() -> int:
    """NVIDIA GPUs with a working driver; 0 without."""
    if not _DRIVER.exists() and shutil.which("nvidia-smi") is None:
        return 0
    try:
        listing = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())
