"""A podman with storage, configuration and runtime of its own, so that the machine's is left as it was."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SHIM = Path(__file__).resolve().parent / "runc-shim"


class PrivatePodman:
    """Everything below `root`. Builds use the host's network and add `build_options` to each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.socket = root / "podman.sock"
        self.build_options: list[str] = []
        root.mkdir(parents=True, exist_ok=True)
        (root / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{root}/graph"\nrunroot = "{root}/run"\n'
        )
        (root / "containers.conf").write_text(
            "[engine]\n"
            'cgroup_manager = "cgroupfs"\n'
            'events_logger = "file"\n'
            'lock_type = "file"\n'
            'runtime = "runc"\n'
            f'tmp_dir = "{root}/tmp"\n'
            f'volume_path = "{root}/volumes"\n'
            "[engine.runtimes]\n"
            f'runc = ["{SHIM}"]\n'
            "[network]\n"
            'network_backend = "netavark"\n'
            f'network_config_dir = "{root}/networks"\n'
        )
        self.environment = {
            **os.environ,
            "CONTAINERS_CONF": str(root / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(root / "storage.conf"),
            "DOCKER_HOST": f"unix://{self.socket}",
        }

    def run(self, *arguments: str) -> None:
        """Run podman and show its output. Raises CalledProcessError."""
        subprocess.run(("podman", *arguments), env=self.environment, check=True)

    def output(self, *arguments: str) -> str:
        """What podman prints. Raises CalledProcessError."""
        done = subprocess.run(
            ("podman", *arguments), env=self.environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def attempt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """How podman ends and what it prints, whether or not it succeeds."""
        return subprocess.run(
            ("podman", *arguments), env=self.environment, check=False, capture_output=True, text=True
        )

    def has_image(self, name: str) -> bool:
        command = ("podman", "image", "exists", name)
        return subprocess.run(command, env=self.environment, check=False).returncode == 0

    def build(self, arguments: list[str], tag: str) -> None:
        """Build an image. `chroot` isolation is the one that needs no more rights than this process has."""
        self.run(
            "build",
            "--isolation",
            "chroot",
            "--network",
            "host",
            *self.build_options,
            "--tag",
            tag,
            *arguments,
        )

    def use_from_host(self, ca_bundle: Path | None, find_links: Path | None) -> None:
        """Let builds see the host's certificates and a folder of wheels; images keep empty mount points."""
        pip, npm = self.root / "pip.conf", self.root / "npmrc"
        pip_lines, npm_lines = ["[global]"], ["fund=false", "audit=false"]
        if ca_bundle is not None:
            inside = "/etc/ssl/certs/ca-certificates.crt"
            self.build_options += ["--volume", f"{ca_bundle}:{inside}:ro"]
            pip_lines.append(f"cert = {inside}")
            npm_lines.append(f"cafile={inside}")
        if find_links is not None:
            self.build_options += ["--volume", f"{find_links}:/find-links:ro"]
            pip_lines.append("find-links = /find-links")
        for file, lines, inside in ((pip, pip_lines, "/etc/pip.conf"), (npm, npm_lines, "/root/.npmrc")):
            file.write_text("\n".join(lines) + "\n")
            self.build_options += ["--volume", f"{file}:{inside}:ro"]
