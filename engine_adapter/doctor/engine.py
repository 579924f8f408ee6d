"""Is vLLM here, whole, of the right version and build, and does it keep what Sluice relies on?"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable, Iterator

from engine_adapter import install
from engine_adapter.doctor.finding import Finding
from engine_adapter.vllm import pin

_SELF_TEST_SECONDS = 180.0
_NUMA = "libnuma.so.1"
_CPU_TORCH = pin.CPU_TORCH.partition("==")[2]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def check_engine(
    known: install.Facts,
    found: pin.Installed,
    loads: Callable[[str], bool] = _loads,
) -> Iterator[Finding]:
    """Version, build, completeness, libraries and the torchvision trap; imports at most torchvision.

    `loads`: can the dynamic linker find a library?
    """
    if {pin.CPU_DISTRIBUTION, pin.GPU_DISTRIBUTION} <= known.installed.keys():
        text = "vLLM's CPU and GPU build are both installed, and have overwritten each other's files"
        yield Finding(
            "vllm", "fail", text, "run `sluice install-engine`: it removes both and installs the right one"
        )
        return
    if problem := pin.version_problem(found):
        text, _, remedy = problem.partition(": ")
        yield Finding("vllm", "fail", text, remedy)
        return
    yield Finding("vllm", "ok", f"{found.distribution} {found.version}")
    if not known.gpus and not found.on_cpu:
        yield Finding("build", "fail", *known.nvidia.gpu_build_problem())
    elif known.gpus and found.on_cpu:
        text = "this machine has a GPU, but vLLM's CPU build is installed"
        yield Finding(
            "build", "warn", text, "run `sluice install-engine --gpu`: it puts the GPU build in its place"
        )
    if found.on_cpu:
        yield from _check_cpu_build(known, loads)
    if trap := pin.torchvision_problem():
        text, _, remedy = trap.rpartition(": ")
        # The GPU build wants a torchvision, of the version that its requirements name.
        repair = (
            remedy
            if found.on_cpu
            else f"run `pip install vllm=={pin.VLLM_VERSION}`, which brings the one that fits"
        )
        yield Finding("torchvision", "fail", text, repair)
    else:
        yield Finding("torchvision", "ok", "no torchvision that does not fit torch")


def _check_cpu_build(known: install.Facts, loads: Callable[[str], bool]) -> Iterator[Finding]:
    closure = install.pinned(install.REQUIREMENTS / "cpu.txt")
    if absent := sorted(name for name in closure if name not in known.installed):
        yield Finding("vllm needs", "fail", f"not installed: {', '.join(absent)}", pin.REINSTALL)
    torch = known.installed.get("torch")
    if torch != _CPU_TORCH:
        text = f"torch {torch} is installed" if torch else "torch is not installed"
        yield Finding(
            "torch", "fail", f"{text}; vLLM's CPU build is compiled against {_CPU_TORCH}", pin.REINSTALL
        )
    if not loads(_NUMA):
        text = f"the library {_NUMA} is missing, without which vLLM's CPU build has no kernels"
        yield Finding(
            "libnuma", "fail", text, "`apt-get install libnuma1`, on Fedora `dnf install numactl-libs`"
        )


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
    broken: list[str] = json.loads(answer[0].removeprefix("findings:")) if answer else []
    if answer and not broken:
        return Finding("vllm internals", "ok", "everything Sluice relies on in vLLM is there")
    errors = test.stderr.strip().splitlines()
    text = "; ".join(broken) or (
        errors[-1] if errors else f"importing vLLM ended with status {test.returncode}"
    )
    remedy = "run `sluice install-engine --reinstall`, which takes vLLM out and puts it back"
    return Finding("vllm internals", "fail", text, remedy)
