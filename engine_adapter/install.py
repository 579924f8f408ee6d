"""Installing the engine: which pip commands this machine needs. Planning is pure; `execute` runs a plan.

`pip install sluice` alone brings no engine, because no single requirement fits both kinds of machine: the
CPU build of vLLM has another name, wants a torch that PyPI does not carry, and lists packages that break it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from engine_adapter.launch.nvidia import Nvidia, look
from engine_adapter.vllm import pin

Target = Literal["cpu", "gpu"]

REQUIREMENTS = Path(__file__).resolve().parent / "requirements"
PYTORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_EXACTLY = ("install", "--quiet", "--no-deps", "--no-warn-conflicts")
MACHINES = ("x86_64", "aarch64")
"""Machines that the CPU build has wheels for."""


class InstallError(RuntimeError):
    """The engine cannot be installed; the message says why."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides about the plan."""

    gpus: int
    """That vLLM's GPU build runs on."""
    system: str
    machine: str
    installed: Mapping[str, str]
    """Distribution name, normalised, to version: everything in this environment."""
    importable: bool = True
    """Python finds the package `vllm`. Without it, metadata that says it is installed is only a rest."""
    nvidia: Nvidia = Nvidia()
    """Where `gpus` comes from."""


@dataclass(frozen=True, slots=True)
class Step:
    """One pip command. `attempts` are tried in order until one succeeds."""

    title: str
    attempts: tuple[tuple[str, ...], ...]


def facts() -> Facts:
    """Look at this machine and this environment."""
    import platform

    installed = {
        normalised(name): distribution.version
        for distribution in importlib.metadata.distributions()
        if (name := distribution.metadata["Name"])
    }
    importable = importlib.util.find_spec("vllm") is not None
    nvidia = look()
    return Facts(nvidia.usable, platform.system(), platform.machine(), installed, importable, nvidia)


def why_not_on_the_gpu(known: Facts) -> str:
    """What to say before the CPU build is installed where there is a GPU that it does not use, or nothing."""
    if known.gpus or not known.nvidia.seen:
        return ""
    why, mend = known.nvidia.problem()
    return f"The CPU build of vLLM is taken, since {why}. For the GPU build {mend}, then run this again."


def plan(known: Facts, target: Target | None = None, *, reinstall: bool = False) -> list[Step]:
    """The steps that remain; empty when the engine is installed. `target` None follows the hardware.

    `reinstall`: take out what is there first. So it is anyway where files must be missing: one build was
    installed over the other, or its package is gone. Raises InstallError where no wheel exists.
    """
    target = target or ("gpu" if known.gpus else "cpu")
    if known.system != "Linux":
        raise InstallError(
            f"vLLM has no wheels for {known.system}: run workers on Linux and point the gateway at them "
            "with --worker-url, or use `--engine fake`"
        )
    builds = (pin.CPU_DISTRIBUTION, pin.GPU_DISTRIBUTION)
    removal: list[Step] = []
    if reinstall or not known.importable or all(_has(known, build) for build in builds):
        removal = _uninstall(known, "the engine, whole or in parts", builds)
        kept = {name: version for name, version in known.installed.items() if name not in builds}
        known = replace(known, installed=kept)
    return [*removal, *(_gpu_steps(known) if target == "gpu" else _cpu_steps(known))]


def execute(
    steps: list[Step],
    report: Callable[[str], None],
    run: Callable[[tuple[str, ...]], int] | None = None,
) -> None:
    """Carry out a plan with this interpreter's pip. Raises InstallError when a step fails in every way."""
    run = run or _run_pip
    for step in steps:
        report(step.title)
        for attempt in step.attempts:
            if run(attempt) == 0:
                break
        else:
            raise InstallError(f"{step.title}: pip failed; its message is above")


def normalised(name: str) -> str:
    """A distribution name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(requirements: Path) -> dict[str, str]:
    """Name to version of the `==` lines of a requirements file, markers ignored."""
    pins: dict[str, str] = {}
    for line in requirements.read_text().splitlines():
        requirement = line.split("#")[0].split(";")[0].strip()
        if "==" in requirement:
            name, version = requirement.replace("===", "==").split("==")
            pins[normalised(name)] = version
    return pins


def _gpu_steps(known: Facts) -> list[Step]:
    right_version = known.installed.get(pin.GPU_DISTRIBUTION) == pin.VLLM_VERSION
    cpu_torch = known.installed.get("torch", "").endswith("+cpu")
    if right_version and not cpu_torch and not _has(known, pin.CPU_DISTRIBUTION):
        return []
    steps = _uninstall(known, "the CPU build", (pin.CPU_DISTRIBUTION,))
    install = ("install", "--quiet", "--no-warn-conflicts", "-r", str(REQUIREMENTS / "gpu.txt"))
    return [*steps, Step(f"Installing vLLM {pin.VLLM_VERSION} for NVIDIA GPUs (several GB)", (install,))]


def _cpu_steps(known: Facts) -> list[Step]:
    if known.machine not in MACHINES:
        raise InstallError(f"the CPU build of vLLM has no wheels for {known.machine} machines")
    steps = _uninstall(known, "what breaks the CPU build", pin.BREAKING_DISTRIBUTIONS)
    steps += _uninstall(known, "the GPU build", (pin.GPU_DISTRIBUTION,))
    torch_version = pin.CPU_TORCH.split("==")[1]
    if known.installed.get("torch") != torch_version:
        torch = (*_EXACTLY, pin.CPU_TORCH)
        # A wheel that pip is configured to find comes first: PyTorch's index may be out of reach.
        from_index = (*torch, "--extra-index-url", PYTORCH_CPU_INDEX)
        steps.append(Step(f"Installing torch {torch_version} (0.2 GB)", (torch, from_index)))
    closure = REQUIREMENTS / "cpu.txt"
    wanted = {pin.CPU_DISTRIBUTION: pin.VLLM_VERSION, **pinned(closure)}
    # A newer version of a shared library is the operator's choice; an absent one stops the engine.
    right_version = known.installed.get(pin.CPU_DISTRIBUTION) == pin.VLLM_VERSION
    if not right_version or any(not _has(known, name) for name in wanted):
        engine = (*_EXACTLY, f"{pin.CPU_DISTRIBUTION}=={pin.VLLM_VERSION}", "-r", str(closure))
        steps.append(
            Step(f"Installing vLLM {pin.VLLM_VERSION} for CPUs (0.6 GB; takes a few minutes)", (engine,))
        )
    return steps


def _uninstall(known: Facts, what: str, names: tuple[str, ...]) -> list[Step]:
    present = tuple(name for name in names if _has(known, name))
    if not present:
        return []
    return [Step(f"Removing {what}: {', '.join(present)}", (("uninstall", "--quiet", "--yes", *present),))]


def _has(known: Facts, name: str) -> bool:
    return name in known.installed


def _run_pip(arguments: tuple[str, ...]) -> int:
    return subprocess.run([sys.executable, "-m", "pip", *arguments], check=False).returncode
