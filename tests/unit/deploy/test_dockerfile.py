"""Dockerfile: pinned bases, sources that exist, no root, and an installer that is complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FINAL = ("gateway", "worker-cpu", "worker-gpu")
Stages = dict[str, tuple[str, list[str]]]


@pytest.fixture(scope="module")
def stages(repository: Path) -> Stages:
    """Stage -> what it is FROM, and its instructions on one line each."""
    text = re.sub(r"\\\n", " ", (repository / "Dockerfile").read_text())
    found: Stages = {}
    for line in text.splitlines():
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            found[match[2]] = (match[1], instructions := [])
        elif found and line and not line.startswith("#"):
            instructions.append(line)
    return found


def test_base_images_are_pinned_and_public(repository: Path) -> None:
    bases = dict(
        re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", (repository / "Dockerfile").read_text(), re.MULTILINE)
    )
    assert set(bases) == {"PYTHON_IMAGE", "NODE_IMAGE"}
    for image in bases.values():
        assert re.fullmatch(r"docker\.io/library/\w+:\d+[\d.]*-\S+", image), image


def test_compose_names_the_same_base_images(repository: Path) -> None:
    compose = (repository / "compose.yaml").read_text()
    for name, image in re.findall(
        r"^ARG (\w+_IMAGE)=(\S+)$", (repository / "Dockerfile").read_text(), re.MULTILINE
    ):
        assert f"{name}: ${{{name}:-{image}}}" in compose


def test_stages_build_on_an_argument_or_an_earlier_stage(stages: Stages) -> None:
    earlier: set[str] = set()
    for name, (base, _) in stages.items():
        assert base in earlier or base in ("${PYTHON_IMAGE}", "${NODE_IMAGE}"), name
        earlier.add(name)


def test_the_gateway_is_what_a_plain_build_makes(stages: Stages) -> None:
    assert list(stages)[-1] == "gateway"


@pytest.mark.parametrize("stage", FINAL)
def test_images_do_not_run_as_root(stages: Stages, stage: str) -> None:
    users = [line.split()[1] for line in stages[stage][1] if line.startswith("USER ")]
    assert users[-1:] == ["10001"]


def test_what_is_copied_exists_and_is_sent_to_the_builder(stages: Stages, repository: Path) -> None:
    let_through = {
        line[1:] for line in (repository / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = 0
    for _, instructions in stages.values():
        for line in instructions:
            if line.startswith("COPY ") and "--from" not in line:
                for source in line.split()[1:-1]:
                    assert (repository / source).exists(), source
                    assert source.split("/")[0] in let_through, source
                    copied += 1
    assert copied > 10


def test_the_gateway_image_never_sees_the_engine(stages: Stages) -> None:
    seen, todo = set(), ["gateway"]
    while todo:
        base, instructions = stages[todo.pop()]
        sources = [match[1] for line in instructions if (match := re.search(r"--from=(\S+)", line))]
        todo += [name for name in (base, *sources) if name in stages and name not in seen]
        seen.update(todo)
        assert not any("install_engine" in line for line in instructions)
    assert seen == {"gateway-environment", "runtime", "base", "wheel", "page"}


def test_the_installers_files_are_all_that_it_imports(
    stages: Stages, repository: Path, tmp_path: Path
) -> None:
    for line in stages["installer"][1]:
        if line.startswith("COPY "):
            *sources, target = line.split()[1:]
            folder = tmp_path / target.lstrip("/")
            for source in (repository / s for s in sources):
                if source.is_dir():
                    folder.mkdir(parents=True)
                    for file in source.iterdir():
                        (folder / file.name).write_bytes(file.read_bytes())
                else:
                    folder.mkdir(parents=True, exist_ok=True)
                    (folder / source.name).write_bytes(source.read_bytes())
    program = (
        "from engine_adapter import install as i\n"
        "facts = i.Facts(0, 'Linux', 'x86_64', {})\n"
        "print(*(step.title for t in ('cpu', 'gpu') for step in i.plan(facts, t)), sep='\\n')"
    )
    environment = {"PYTHONPATH": str(tmp_path / "installer"), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        (sys.executable, "-S", "-c", program), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "for CPUs" in done.stdout
    assert "for NVIDIA GPUs" in done.stdout
