"""What the machine offers to workers: cores this process may use, free memory, NVIDIA GPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_TOPOLOGY = Path("/sys/devices/system/cpu")
_DRIVER = Path("/proc/driver/nvidia/version")
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_PCI = Path("/sys/bus/pci/devices")
_NVIDIA = "0x10de"
_DISPLAY_CLASS = "0x03"
"""PCI class of graphics and 3D controllers; a card's audio and USB functions have others."""


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


def nvidia_cards(pci: Path = _PCI) -> int:
    """NVIDIA GPUs on the PCI bus, whether or not a driver or a container lets programs use them."""
    cards = 0
    for device in pci.glob("*"):
        try:
            vendor, kind = (device / "vendor").read_text(), (device / "class").read_text()
        except OSError:
            continue
        cards += vendor.strip() == _NVIDIA and kind.startswith(_DISPLAY_CLASS)
    return cards
