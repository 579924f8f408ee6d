"""Images made from Debian packages, in place of the public base images, where no image registry is reached.

They show that our own images build and that the stack comes up; they are not the images that the compose file
names. There is none for Grafana, which Debian does not have.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from private_podman import PrivatePodman

HERE = Path(__file__).resolve().parent
PREFIX = "localhost/sluice-stand-in"


@dataclass(frozen=True, slots=True)
class Debian:
    """One root file system, of which several images may be made."""

    name: str
    suite: str
    packages: tuple[str, ...]


ROOTS = (
    Debian("debian-12-python", "bookworm", ("python3", "python3-venv", "python3-pip")),
    Debian("debian-13-node", "trixie", ("nodejs", "npm")),
    Debian("debian-13-services", "trixie", ("valkey-server", "valkey-tools", "prometheus", "wget")),
)
IMAGES = {
    "PYTHON_IMAGE": "python",
    "NODE_IMAGE": "node",
    "VALKEY_IMAGE": "valkey",
    "PROMETHEUS_IMAGE": "prometheus",
}
"""Variable of compose.yaml -> stand-in for what it names."""


def variables() -> dict[str, str]:
    """The value of each variable of `IMAGES`."""
    return {variable: f"{PREFIX}/{name}" for variable, name in IMAGES.items()}


def build(podman: PrivatePodman, tars: Path) -> dict[str, str]:
    """Make what is missing; returns `variables()`.

    Root file systems are kept as `tars`/NAME.tar, since making them takes minutes.
    """
    tars.mkdir(parents=True, exist_ok=True)
    for root in ROOTS:
        image = f"{PREFIX}/{root.name}"
        if podman.has_image(image):
            continue
        tar = tars / f"{root.name}.tar"
        if not tar.exists():
            _bootstrap(root, tar)
        podman.run("import", "--quiet", str(tar), image)
    for name in IMAGES.values():
        if not podman.has_image(f"{PREFIX}/{name}"):
            podman.build(
                ["--file", str(HERE / "stand-ins" / f"{name}.Containerfile"), str(HERE)], f"{PREFIX}/{name}"
            )
    return variables()


def _bootstrap(root: Debian, tar: Path) -> None:
    """mmdebstrap from Debian's own archive; a half-written file is not left behind."""
    partial = tar.with_suffix(".partial.tar")
    source = f"deb http://deb.debian.org/debian {root.suite} main"
    include = ",".join(("ca-certificates", *root.packages))
    command = ["mmdebstrap", "--variant=minbase", f"--include={include}", root.suite, str(partial), source]
    subprocess.run(command, check=True)
    partial.rename(tar)
