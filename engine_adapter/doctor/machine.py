"""What a worker and a gateway need of the machine: Python, memory, disk, files, a port, a GPU's driver."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import platform
import resource
import shutil
import socket
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from engine_adapter import install
from engine_adapter.doctor.finding import Finding
from engine_adapter.launch.hardware import Hardware
from engine_adapter.launch.nvidia import Nvidia
from engine_adapter.launch.ports import bind_error, port_owner
from engine_adapter.packages import OUR_PACKAGES

OUR_DISTRIBUTION = "sluice"

_GiB = 1 << 30


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    text = f"Python {'.'.join(map(str, version))}"
    if version < (3, 11):
        remedy = "install Python 3.11 or newer, then `make clean serve PYTHON=python3.11`"
        return Finding("python", "fail", f"{text} is too old", remedy)
    return Finding("python", "ok", text)


def check_platform(system: str = "", machine: str = "") -> Finding:
    system, machine = system or platform.system(), machine or platform.machine()
    text = f"{system} on {machine}"
    if system != "Linux" or machine not in install.MACHINES:
        remedy = "run workers on Linux (x86-64 or arm64) and use --worker-url; the gateway itself runs here"
        return Finding("platform", "warn", f"{text}, for which vLLM has no wheels", remedy)
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
        remedy = (
            f"give Sluice an environment of its own (`make clean serve`), or `pip uninstall {others}` "
            "and install Sluice again, since their files may have replaced ours"
        )
        return Finding("package names", "fail", text, remedy)
    return Finding("package names", "ok", "nobody else owns a package name of Sluice")


def check_port(host: str, port: int) -> Finding:
    """Could the gateway listen there?"""
    error = None if port == 0 else bind_error(host, port)
    if error is None:
        return Finding("port", "ok", f"port {port} on {host} is free" if port else "any free port will do")
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        text = f"{host} is no address of this machine"
        return Finding(
            "port", "fail", text, "set --host to 127.0.0.1, 0.0.0.0 or an address that `ip addr` shows"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        text = f"this user may not listen on port {port}"
        return Finding(
            "port", "fail", text, "choose a port from 1024 on (`--port 8080`; with make: PORT=8080)"
        )
    text = f"port {port} is in use by {port_owner(port) or 'another program'}"
    remedy = (
        "fine if that is Sluice itself; else end it, or choose another (`--port 9000`; with make: PORT=9000)"
    )
    return Finding("port", "warn", text, remedy)


def check_disk(directory: Path) -> Finding:
    """Space and the right to write where logs and the fleet file go; nothing is created."""
    at = next(parent for parent in (directory, *directory.parents) if parent.exists())
    if not at.is_dir() or not os.access(at, os.W_OK | os.X_OK):
        remedy = "choose another directory with --state-dir, or let this user write there"
        return Finding("disk", "fail", f"cannot write to {at}, where logs would go", remedy)
    free = shutil.disk_usage(at).free
    text = f"{free / _GiB:.1f} GiB free for {directory}"
    if free < _GiB // 4:
        return Finding("disk", "fail", text, "free some space, or choose another disk with --state-dir")
    if free < 2 * _GiB:
        remedy = (
            "enough for logs; free some before a model from the hub is downloaded or the engine is installed"
        )
        return Finding("disk", "warn", text, remedy)
    return Finding("disk", "ok", text)


def check_memory(hardware: Hardware) -> Finding:
    text = f"{hardware.free_bytes / _GiB:.1f} GiB free, {hardware.cores} cores"
    if hardware.free_bytes < 2 * _GiB:
        remedy = (
            "a worker needs about 2 GiB beside its model: stop other programs, or raise the container's limit"
        )
        return Finding("memory", "fail", text, remedy)
    if hardware.free_bytes < 4 * _GiB:
        remedy = (
            "enough for one worker with a small model; for more, stop other programs or lower --kv-memory"
        )
        return Finding("memory", "warn", text, remedy)
    return Finding("memory", "ok", text)


def check_gpu(nvidia: Nvidia) -> Finding:
    """`nvidia`: what `engine_adapter.launch.nvidia.look` found."""
    if usable := nvidia.usable:
        names = ", ".join(sorted({gpu.name for gpu in nvidia.gpus}))
        text = f"{usable} NVIDIA GPU{'s' if usable > 1 else ''} ({names}), driver {nvidia.gpus[0].driver}"
        return Finding("gpu", "ok", text)
    if nvidia.seen:
        why, mend = nvidia.problem()
        return Finding("gpu", "warn", f"cannot be used: {why}", mend)
    return Finding("gpu", "ok", "no NVIDIA GPU")


def check_open_files(limit: int | None = None) -> Finding:
    """Each running request takes two sockets."""
    if limit is None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 <= limit < 4096:
        text = f"at most {limit} open files, so some {limit // 2} requests at a time"
        remedy = "raise it: `ulimit -Hn 65536`, LimitNOFILE= in systemd, --ulimit nofile= for a container"
        return Finding("open files", "warn", text, remedy)
    return Finding("open files", "ok", "unlimited" if limit < 0 else f"up to {limit} open files")
