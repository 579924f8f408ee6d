"""What is asked of the image for GPUs on a machine without one. Each function is a check, as in `checks`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from private_podman import PrivatePodman

IMAGE = "localhost/sluice-worker-gpu:0.1.0"
PROGRAM = Path(__file__).resolve().parent / "in_gpu_image.py"
AS_COMPOSE_STARTS_IT = (
    *("run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp:exec,mode=1777"),
    *("--cap-drop", "ALL", "--env", "HOME=/tmp", "--volume", f"{PROGRAM}:/in_gpu_image.py:ro"),
)


def _ends(podman: PrivatePodman, *command: str, program: str = "") -> tuple[int, str]:
    """Exit status and output, both streams, of a command in a container of the image."""
    entrypoint = ("--entrypoint", program) if program else ()
    done = podman.attempt(*AS_COMPOSE_STARTS_IT, *entrypoint, IMAGE, *command)
    lines = (done.stdout + done.stderr).splitlines()
    return done.returncode, "\n".join(line for line in lines if "level=" not in line and "syslog" not in line)


def requirements(podman: PrivatePodman) -> str:
    """Every package has what it wants, in a version that it wants."""
    status, said = _ends(podman, "check", program="pip")
    assert status == 0, said
    return said


def promises(podman: PrivatePodman) -> str:
    """vLLM's GPU build keeps what Sluice relies on, and Triton can compile kernels and its launcher."""
    status, said = _ends(podman, "/in_gpu_image.py", program="python")
    assert status == 0, said
    return said.replace("\n", "; ")


def doctor(podman: PrivatePodman) -> str:
    """`sluice doctor` says in one line that there is no GPU, and in another what to do."""
    status, said = _ends(podman, "doctor", "--quick")
    found = re.search(r"FAIL  build: (.*)\n +-> (.*)", said)
    assert status == 1, said
    assert found is not None, said
    assert "--gpus all" in found[2], said
    return f"{found[1]} -> {found[2]}"


def refuses(podman: PrivatePodman) -> str:
    """A worker ends at once with two lines that a person can act on."""
    status, said = _ends(podman)
    assert status == 2, f"status {status}: {said}"
    assert "the container sees no NVIDIA GPU" in said, said
    assert "Traceback" not in said, said
    return f"status {status}: {said}".replace("\n", " / ")


ALL: tuple[Callable[[PrivatePodman], str], ...] = (requirements, promises, doctor, refuses)
