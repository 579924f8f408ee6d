"""Which NVIDIA GPUs this machine has, whether vLLM can use them, and if not, why and what to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from engine_adapter.vllm import pin

_DRIVER = Path("/proc/driver/nvidia/version")
_PCI = Path("/sys/bus/pci/devices")
_NVIDIA = "0x10de"
_DISPLAY_CLASS = "0x03"
"""PCI class of graphics and 3D controllers; a card's audio and USB functions have others."""
_CONTAINER_FILES = (Path("/.dockerenv"), Path("/run/.containerenv"))
_CONTAINER_VARIABLES = ("container", "KUBERNETES_SERVICE_HOST")
"""The first is set by podman, whose file is hidden where the root file system is read-only."""
_QUERY_SECONDS = 20.0
_FIELDS = (("name", "driver_version", "compute_cap"), ("name", "driver_version"))
"""What `nvidia-smi` is asked for. Drivers before release 510 do not know `compute_cap` and refuse it."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that the driver lists."""

    name: str
    driver: str
    """Version of the driver, e.g. `580.95.05`."""
    capability: tuple[int, int] | None = None
    """CUDA compute capability; None where the driver does not tell."""

    @property
    def driver_is_new_enough(self) -> bool:
        release = re.match(r"\d+", self.driver)
        return release is None or int(release[0]) >= pin.CUDA_DRIVER

    @property
    def is_new_enough(self) -> bool:
        return self.capability is None or self.capability >= pin.CUDA_CAPABILITY


@dataclass(frozen=True, slots=True)
class Nvidia:
    """What was found out about this machine's NVIDIA GPUs."""

    gpus: tuple[Gpu, ...] = ()
    trouble: str = ""
    """What `nvidia-smi` said when it failed."""
    cards: int = 0
    """NVIDIA GPUs on the PCI bus, with or without a driver."""
    in_container: bool = False

    @property
    def usable(self) -> int:
        """GPUs that the pinned vLLM runs on."""
        return sum(gpu.driver_is_new_enough and gpu.is_new_enough for gpu in self.gpus)

    @property
    def seen(self) -> bool:
        """Something says that there is an NVIDIA GPU, usable or not."""
        return bool(self.gpus or self.trouble or self.cards)

    def problem(self) -> tuple[str, str]:
        """Why `usable` is 0, as half a sentence, and how to mend it (nothing where no GPU is `seen`)."""
        if old := next((gpu for gpu in self.gpus if not gpu.driver_is_new_enough), None):
            return (
                f"the NVIDIA driver {old.driver} is too old: vLLM {pin.VLLM_VERSION} is built for CUDA "
                f"{pin.CUDA_VERSION}, which needs {pin.CUDA_DRIVER} or newer",
                f"update the driver to release {pin.CUDA_DRIVER} or newer",
            )
        if old := next((gpu for gpu in self.gpus if not gpu.is_new_enough), None):
            has, needs = (".".join(map(str, c)) for c in (old.capability or (), pin.CUDA_CAPABILITY))
            return (
                f"{old.name} has compute capability {has}, vLLM {pin.VLLM_VERSION} needs {needs} or newer",
                "take a newer GPU, from Turing on",
            )
        if self.in_container:
            return (
                f"the container sees no NVIDIA GPU{self._words()}",
                "start it with `--gpus all`, on a host with NVIDIA's driver and container toolkit",
            )
        if self.trouble:
            return (
                f"nvidia-smi fails{self._words()}",
                "mend the NVIDIA driver until `nvidia-smi` lists the GPU; after updating it, restart",
            )
        if self.cards:
            return (
                "this machine has an NVIDIA GPU, but no driver that lists it",
                "install the NVIDIA driver, until `nvidia-smi` lists the GPU",
            )
        return "there is no NVIDIA GPU", ""

    def gpu_build_problem(self) -> tuple[str, str]:
        """Why workers of vLLM's GPU build cannot start where `problem` holds, and what to do about it."""
        why, mend = self.problem()
        if self.in_container:
            return f"this is vLLM for GPUs, but {why}", f"{mend}. For CPUs there is the image `worker-cpu`"
        swap = "run `sluice install-engine`: it puts the CPU build (0.8 GB) in its place"
        return f"vLLM's GPU build is installed, but {why}", f"{mend}, or {swap}" if mend else swap

    def _words(self) -> str:
        return f" ({self.trouble})" if self.trouble else ""


def look() -> Nvidia:
    """Ask the driver, the PCI bus and this process's surroundings. Takes milliseconds without a driver."""
    gpus, trouble = _listed()
    return Nvidia(gpus, trouble, nvidia_cards(), _in_container())


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


def _listed() -> tuple[tuple[Gpu, ...], str]:
    if shutil.which("nvidia-smi") is None:
        return (), "the driver is loaded, but nvidia-smi is not installed" if _DRIVER.exists() else ""
    said = ""
    for fields in _FIELDS:
        command = ("nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader")
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_QUERY_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return (), f"no answer within {_QUERY_SECONDS:g} s"
        except OSError as error:
            return (), str(error)
        lines = [line.strip() for line in (done.stdout or done.stderr).splitlines() if line.strip()]
        gpus = tuple(gpu for line in lines if (gpu := _gpu(line, len(fields))))
        if done.returncode == 0 and gpus:
            return gpus, ""
        said = lines[0] if lines else f"exit status {done.returncode}"
    return (), said.rstrip(".")


def _gpu(line: str, fields: int) -> Gpu | None:
    parts = [part.strip() for part in line.rsplit(",", fields - 1)]
    if len(parts) != fields:
        return None
    capability = re.fullmatch(r"(\d+)\.(\d+)", parts[2]) if fields > 2 else None
    return Gpu(parts[0], parts[1], (int(capability[1]), int(capability[2])) if capability else None)


def _in_container() -> bool:
    return any(file.exists() for file in _CONTAINER_FILES) or any(
        name in os.environ for name in _CONTAINER_VARIABLES
    )
