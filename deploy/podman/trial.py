#!/usr/bin/env python3
"""Build the images with podman, start the stack of compose.yaml and put it to the test. Run it as root.

    deploy/podman/trial.py                         with the public images, as compose.yaml names them
    deploy/podman/trial.py --stand-ins             with images made from Debian packages, so that no registry
                                                   is needed; there is none for Grafana
    deploy/podman/trial.py --engine fake           without vLLM's gigabytes
    deploy/podman/trial.py --gpu-image             the image for GPUs as well (10 GB, while it is made 30 GB),
                                                   as far as it can be tried without one

Needs podman, buildah, netavark, aardvark-dns, runc, docker-compose, iptables and, for stand-ins, mmdebstrap;
all are Debian packages. Storage is below --root, which may be deleted afterwards. The stack runs in a network
and a process namespace of its own: it publishes its ports there, and nothing of it outlives this program.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import checks
import gpu_image
import stand_ins
from private_podman import PrivatePodman
from stack import REPOSITORY, Stack, prepare_namespaces, run_in_namespaces

SERVICES = ("gateway", "valkey", "prometheus")
"""To start; the worker comes with the gateway."""


def main() -> int:
    options = _options()
    if options.phase == "build":
        return _build(PrivatePodman(options.root), options)
    if options.phase == "test":
        prepare_namespaces()
        return _test(PrivatePodman(options.root), options)
    again = [str(Path(__file__).resolve()), *sys.argv[1:], "--phase"]
    if not options.no_build and (status := run_in_namespaces([*again, "build"], network=False)):
        return status
    return run_in_namespaces([*again, "test"], network=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("/tmp/sluice-podman"), help="podman's storage")
    parser.add_argument("--stand-ins", action="store_true", help="make base images from Debian packages")
    parser.add_argument("--engine", choices=("vllm", "fake"), default="vllm")
    parser.add_argument("--gpu-image", action="store_true", help="build and try the image for GPUs too")
    parser.add_argument("--ca-bundle", type=Path, help="certificates that builds shall trust")
    parser.add_argument(
        "--pip-find-links", type=Path, metavar="DIR", help="folder of wheels that pip looks into"
    )
    parser.add_argument("--no-build", action="store_true", help="use the images of the last run")
    parser.add_argument("--phase", choices=("build", "test"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.root = options.root.resolve()
    return options


def _build(podman: PrivatePodman, options: argparse.Namespace) -> int:
    podman.use_from_host(options.ca_bundle, options.pip_find_links)
    bases = stand_ins.build(podman, options.root / "tars") if options.stand_ins else {}
    arguments = [
        f"--build-arg={name}={bases[name]}" for name in ("PYTHON_IMAGE", "NODE_IMAGE") if name in bases
    ]
    targets = {"gateway": "sluice-gateway"}
    # The fake engine is part of the base install, so the gateway's image can play the worker.
    if options.engine == "vllm":
        targets["worker-cpu"] = "sluice-worker-cpu"
    if options.gpu_image:
        targets["worker-gpu"] = "sluice-worker-gpu"
    for target, name in targets.items():
        started = time.monotonic()
        podman.build([*arguments, "--target", target, str(REPOSITORY)], f"{name}:0.1.0")
        size = int(podman.output("image", "inspect", "--format", "{{.Size}}", f"{name}:0.1.0"))
        _say(f"built {name}: {size / 1e6:.0f} MB, {time.monotonic() - started:.0f} s")
    if options.engine == "fake":
        podman.run("tag", "localhost/sluice-gateway:0.1.0", "localhost/sluice-worker-cpu:0.1.0")
    return 0


def _test(podman: PrivatePodman, options: argparse.Namespace) -> int:
    variables = {"SLUICE_ENGINE__KIND": options.engine}
    if options.engine == "fake":
        # As slow as a model, so that an answer is still running when the gateway is told to stop.
        variables["SLUICE_ENGINE__ARGS"] = '["--itl", "0.02"]'
    services = list(SERVICES)
    if options.stand_ins:
        variables |= stand_ins.variables()
    else:
        services.append("grafana")
    report = Report()
    with Stack(podman, variables) as stack:
        stack.compose("up", "--detach", "--no-build", *services)
        _say(f"docker-compose up: {report.seconds():.1f} s")
        print(stack.compose("ps"))
        chosen = [c for c in checks.ALL if options.engine != "fake" or c not in checks.NEED_A_MODEL]
        for check in chosen:
            report.ask(check.__name__, partial(check, stack))
        if report.failed:
            print(stack.compose("logs", "--tail", "40", "--no-color"))
    for look in gpu_image.ALL if options.gpu_image else ():
        report.ask(f"gpu_image.{look.__name__}", partial(look, podman))
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


class Report:
    """Asks one check after the other and counts."""

    def __init__(self) -> None:
        self.passed = self.failed = 0
        self._started = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._started

    def ask(self, name: str, check: Callable[[], str]) -> None:
        """Say what a check found, or how it failed."""
        try:
            found = check()
        except (AssertionError, OSError, LookupError, subprocess.CalledProcessError) as error:
            self.failed += 1
            _say(f"FAILED {name}: {type(error).__name__}: {getattr(error, 'stderr', None) or error}")
        else:
            self.passed += 1
            _say(f"ok {name} ({self.seconds():.0f} s): {found}")


def _say(text: str) -> None:
    print(f"[trial] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
