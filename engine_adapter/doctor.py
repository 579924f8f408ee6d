"""Is this machine fit to run workers? Each check is a function from what it needs to findings."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine_adapter import install
from engine_adapter.launch.hardware import Hardware
from engine_adapter.launch.model import Model, ModelError, find_model
from engine_adapter.packages import OUR_PACKAGES
from engine_adapter.vllm import pin

Level = Literal["ok", "warn", "fail"]

OUR_DISTRIBUTION = "sluice"

_GiB = 1 << 30
_SELF_TEST_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `remedy` says how to mend a `warn` or a `fail`."""

    check: str
    level: Level
    text: str
    remedy: str = ""


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    text = ".".join(map(str, version))
    if version < (3, 11):
        return Finding("python", "fail", f"Python {text}", "install Python 3.11 or newer and remake .venv")
    return Finding("python", "ok", f"Python {text}")


def check_platform(system: str = "", machine: str = "") -> Finding:
    system, machine = system or platform.system(), machine or platform.machine()
    text = f"{system} on {machine}"
    if system != "Linux" or machine not in install.MACHINES:
        remedy = "run workers on Linux (x86-64 or arm64) and use --worker-url; the gateway itself runs here"
        return Finding("platform", "warn", text, remedy)
    return Finding("platform", "ok", text)


def check_package_names(owners: Mapping[str, Collection[str]] | None = None) -> Finding:
    """`owners`: top-level package to the distributions that contain it; by default this environment's."""
    if owners is None:
        owners = importlib.metadata.packages_distributions()
    foreign = {
        name: sorted(set(owners.get(name, ())) - {OUR_DISTRIBUTION})
        for name in OUR_PACKAGES
        if set(owners.get(name, ())) - {OUR_DISTRIBUTION}
    }
    if foreign:
        text = ", ".join(f"`{name}` also belongs to {', '.join(by)}" for name, by in foreign.items())
        others = " ".join(sorted({distribution for by in foreign.values() for distribution in by}))
        return Finding(
            "package names", "fail", text, f"pip uninstall {others}, or give Sluice an environment of its own"
        )
    return Finding("package names", "ok", "nobody else owns a package name of Sluice")


def check_engine(known: install.Facts, found: pin.Installed) -> Iterable[Finding]:
    """Version, completeness, build and the torchvision trap; imports at most torchvision."""
    if problem := pin.version_problem(found):
        text, _, remedy = problem.partition(": ")
        yield Finding("vllm", "fail", text, remedy)
        return
    yield Finding("vllm", "ok", f"{found.distribution} {found.version}")
    if known.gpus and found.on_cpu:
        remedy = "sluice install-engine --gpu"
        yield Finding("build", "warn", "there is a GPU, but vLLM's CPU build is installed", remedy)
    if not known.gpus and not found.on_cpu:
        remedy = "sluice install-engine --cpu, or mend the NVIDIA driver (nvidia-smi)"
        yield Finding("build", "fail", "vLLM's GPU build is installed, but no GPU was found", remedy)
    if found.on_cpu:
        closure = install.pinned(install.REQUIREMENTS / "cpu.txt")
        if absent := sorted(name for name in closure if name not in known.installed):
            yield Finding(
                "vllm needs", "fail", f"not installed: {', '.join(absent)}", "sluice install-engine"
            )
    if trap := pin.torchvision_problem():
        text, _, remedy = trap.rpartition(": ")
        yield Finding("torchvision", "fail", text, remedy)
    else:
        yield Finding("torchvision", "ok", "no torchvision that does not fit torch")


def check_engine_internals(python: str = sys.executable) -> Finding:
    """Run `pin.broken_promises` in a process of its own, as a worker would import vLLM."""
    program = (
        "from engine_adapter.vllm import pin; import json; "
        "print('findings:' + json.dumps(pin.broken_promises(pin.installed())))"
    )
    try:
        test = subprocess.run(
            [python, "-c", program], capture_output=True, text=True, timeout=_SELF_TEST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        text = f"importing vLLM took more than {_SELF_TEST_SECONDS:g} s"
        return Finding("vllm internals", "warn", text, "try again when the machine is less busy")
    answer = [line for line in test.stdout.splitlines() if line.startswith("findings:")]
    if answer == ["findings:[]"]:
        return Finding("vllm internals", "ok", "everything Sluice relies on in vLLM is there")
    errors = test.stderr.strip().splitlines()
    text = (
        answer[0].removeprefix("findings:") if answer else (errors[-1] if errors else "importing vLLM failed")
    )
    return Finding("vllm internals", "fail", text, pin.REINSTALL)


def check_model(model: str | None) -> Finding:
    try:
        found = find_model(model)
    except ModelError as error:
        return Finding(
            "model", "fail", str(error), "give --model a directory with config.json, or a hub name"
        )
    if not found.local:
        return Finding("model", "ok", f"{found.source} from the hub; downloaded at the first start")
    if problem := _unreadable(found):
        return Finding("model", "fail", problem, f"restore the files in {found.source}")
    return Finding("model", "ok", f"{found.name} at {found.source}")


def _unreadable(model: Model) -> str | None:
    directory = Path(model.source)
    weights = [*directory.glob("*.safetensors"), *directory.glob("*.bin"), *directory.glob("*.gguf")]
    if not weights:
        return "the model directory holds no weights (*.safetensors)"
    try:
        model.config()
        for file in weights:
            with file.open("rb") as opened:
                # A Git LFS pointer begins so: the clone has the names of the weights, but not the weights.
                if opened.read(24) == b"version https://git-lfs.":
                    return f"{file.name} is a Git LFS pointer, not the weights"
    except (OSError, ModelError) as error:
        return f"cannot read the model: {error}"
    return None


def check_disk(directory: Path) -> Finding:
    at = next(parent for parent in (directory, *directory.parents) if parent.exists())
    free = shutil.disk_usage(at).free
    text = f"{free / _GiB:.1f} GiB free for {directory}"
    if free < _GiB // 4:
        return Finding("disk", "fail", text, "free some space, or choose another --state-dir")
    if free < 2 * _GiB:
        return Finding("disk", "warn", text, "logs and downloaded models need space: free some")
    return Finding("disk", "ok", text)


def check_memory(hardware: Hardware) -> Finding:
    text = f"{hardware.free_bytes / _GiB:.1f} GiB free, {hardware.cores} cores"
    if hardware.free_bytes < 2 * _GiB:
        return Finding(
            "memory", "fail", text, "a worker needs about 2 GiB plus its model: stop other programs"
        )
    if hardware.free_bytes < 4 * _GiB:
        return Finding("memory", "warn", text, "one worker with a small model fits; more memory is safer")
    return Finding("memory", "ok", text)


def check_gpu(hardware: Hardware) -> Finding:
    if hardware.gpus:
        return Finding("gpu", "ok", f"{hardware.gpus} NVIDIA GPU{'s' if hardware.gpus > 1 else ''}")
    return Finding("gpu", "ok", "no NVIDIA GPU: the CPU build of vLLM is used")


def check_open_files(limit: int | None = None) -> Finding:
    """Each running request takes two sockets."""
    if limit is None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 <= limit < 4096:
        remedy = "raise it (`ulimit -n 65536`, LimitNOFILE= in systemd)"
        return Finding(
            "open files", "warn", f"at most {limit} open files, so some {limit // 2} requests", remedy
        )
    return Finding("open files", "ok", "unlimited" if limit < 0 else f"up to {limit} open files")
