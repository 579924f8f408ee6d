"""The compose stack in namespaces of its own: bridges, firewall rules and processes end with them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from private_podman import PrivatePodman

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = "sluice"


def run_in_namespaces(program: list[str], *, network: bool) -> int:
    """Run a Python program with mounts of its own; with `network` also with interfaces and processes.

    What no namespace holds are control groups: the empty ones that podman leaves are removed.
    """
    isolation = ["--mount"]
    if network:
        isolation += ["--net", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
    status = subprocess.run(("unshare", *isolation, sys.executable, *program), check=False).returncode
    for parent in Path("/sys/fs/cgroup").glob("**/libpod_parent"):
        for group in (*sorted(parent.glob("**/"), reverse=True), parent):
            with contextlib.suppress(OSError):
                group.rmdir()
    return status


def prepare_namespaces() -> None:
    """Loopback, and a /run of our own: the container network leaves its state there."""
    subprocess.run(("ip", "link", "set", "lo", "up"), check=True)
    subprocess.run(("mount", "-t", "tmpfs", "tmpfs", "/run"), check=True)


class Stack:
    """docker-compose over podman's API. Podman has no systemd here, so health checks are run by a thread."""

    def __init__(self, podman: PrivatePodman, variables: Mapping[str, str]) -> None:
        self._podman = podman
        self._environment = {**podman.environment, "COMPOSE_PROJECT_NAME": PROJECT, **variables}
        self._service: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        self._checker = threading.Thread(target=self._check_health, daemon=True)

    def __enter__(self) -> Stack:
        socket = self._podman.socket
        socket.unlink(missing_ok=True)
        self._service = subprocess.Popen(
            ("podman", "system", "service", "--time", "0", f"unix://{socket}"), env=self._podman.environment
        )
        deadline = time.monotonic() + 20
        while not socket.exists():
            if time.monotonic() > deadline:
                raise TimeoutError("podman's API service did not start within 20 s")
            time.sleep(0.1)
        self._checker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.compose("down", "--volumes", "--timeout", "10", check=False)
        if self._service is not None:
            self._service.terminate()
            self._service.wait(10)

    def set(self, name: str, value: str) -> None:
        """Give compose.yaml another variable."""
        self._environment[name] = value

    def compose(self, *arguments: str, check: bool = True) -> str:
        """What docker-compose prints. Where it fails: its messages, and CalledProcessError if `check`."""
        command = ("docker-compose", "--file", str(REPOSITORY / "compose.yaml"), *arguments)
        done = subprocess.run(command, env=self._environment, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            print(done.stderr, file=sys.stderr)
            if check:
                done.check_returncode()
        return done.stdout.strip()

    def container(self, service: str) -> str:
        """Name of the container of a service."""
        label = f"label=com.docker.compose.service={service}"
        return self._podman.output("ps", "--all", "--filter", label, "--format", "{{.Names}}")

    def inside(self, service: str, *command: str) -> str:
        """What a command prints inside a service's container. Raises CalledProcessError."""
        return self._podman.output("exec", self.container(service), *command)

    def exit_status(self, service: str) -> int:
        """With which status a service's container ended."""
        return int(self._state(service)["ExitCode"])

    def health(self, service: str) -> str:
        """`healthy`, or what the last check of a service's container said."""
        found = self._state(service).get("Health") or self._state(service)["Healthcheck"]
        if found["Status"] == "healthy":
            return "healthy"
        last = (found.get("Log") or [{"Output": "never checked"}])[-1]
        return f"{found['Status']}: {last['Output']}"

    def _state(self, service: str) -> dict[str, Any]:
        described = json.loads(self._podman.output("inspect", self.container(service)))
        state: dict[str, Any] = described[0]["State"]
        return state

    def _check_health(self) -> None:
        while not self._over.wait(3.0):
            for name in self._podman.output("ps", "--format", "{{.Names}}").split():
                command = ("podman", "healthcheck", "run", name)
                subprocess.run(command, env=self._podman.environment, check=False, capture_output=True)
