"""Looking for NVIDIA GPUs: with a driver, without, with one that fails, and in a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine_adapter.launch import nvidia
from engine_adapter.launch.nvidia import Gpu, Nvidia, look, nvidia_cards
from engine_adapter.vllm import pin

NEWEST_DRIVER_NOT_ENOUGH = f"{pin.CUDA_DRIVER - 1}.65"
LISTING = "NVIDIA H100 80GB HBM3, 580.95.05, 9.0"
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running."
)


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `nvidia-smi`, the only one on PATH; nothing else of this machine is seen."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nvidia, "nvidia_cards", lambda: 0)
    monkeypatch.setattr(nvidia, "_in_container", lambda: False)
    monkeypatch.setattr(nvidia, "_DRIVER", tmp_path / "no-driver")
    return tmp_path / "nvidia-smi"


def write(smi: Path, script: str) -> None:
    smi.write_text(f"#!/bin/sh\n{script}\n")
    smi.chmod(0o755)


def test_a_driver_that_lists_gpus(smi: Path) -> None:
    asked = smi.parent / "asked"
    write(smi, f'echo "$@" > {asked}; echo "{LISTING}"; echo "NVIDIA T4, 580.95.05, 7.5"')
    found = look()
    assert found.gpus == (
        Gpu("NVIDIA H100 80GB HBM3", "580.95.05", (9, 0)),
        Gpu("NVIDIA T4", "580.95.05", (7, 5)),
    )
    assert found.usable == 2
    assert asked.read_text().strip() == ("--query-gpu=name,driver_version,compute_cap --format=csv,noheader")


def test_no_program_and_no_driver(smi: Path) -> None:
    found = look()
    assert found == Nvidia()
    assert not found.seen
    assert found.problem() == ("there is no NVIDIA GPU", "")


def test_a_driver_without_its_program(smi: Path) -> None:
    (smi.parent / "no-driver").touch()
    assert "nvidia-smi is not installed" in look().trouble


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (f'echo "{NO_DRIVER}"; exit 9', "couldn't communicate"),
        ('echo "Failed to initialize NVML: Driver/library version mismatch"; exit 18', "version mismatch"),
        ('echo "No devices were found"', "No devices were found"),
        ("exit 3", "exit status 3"),
        ('echo "cannot load libnvidia-ml.so" >&2; exit 12', "libnvidia-ml.so"),
    ],
)
def test_a_driver_that_fails(smi: Path, script: str, words: str) -> None:
    write(smi, script)
    found = look()
    assert found.usable == 0
    assert found.seen
    text, mend = found.problem()
    assert words in text
    assert "`nvidia-smi` lists the GPU" in mend


def test_a_program_that_cannot_run(smi: Path) -> None:
    smi.write_bytes(b"\x7fELF no program at all")
    smi.chmod(0o755)
    assert look().trouble


def test_a_driver_too_old_to_know_compute_capabilities(smi: Path) -> None:
    write(
        smi,
        'case "$1" in *compute_cap*) echo "Field compute_cap is not a valid field to query."; exit 2;; esac\n'
        'echo "Tesla V100-SXM2-16GB, 470.82.01"',
    )
    found = look()
    assert found.gpus == (Gpu("Tesla V100-SXM2-16GB", "470.82.01"),)
    assert found.usable == 0
    assert "470.82.01 is too old" in found.problem()[0]


@pytest.mark.parametrize(
    ("driver", "capability", "usable"),
    [
        (f"{pin.CUDA_DRIVER}.65.06", (9, 0), True),
        (f"{pin.CUDA_DRIVER + 20}.1", (12, 1), True),
        (NEWEST_DRIVER_NOT_ENOUGH, (9, 0), False),
        ("580.95.05", (7, 5), True),
        ("580.95.05", (7, 0), False),
        ("580.95.05", None, True),
        ("[N/A]", (11, 0), True),
    ],
)
def test_what_vllm_runs_on(driver: str, capability: tuple[int, int] | None, usable: bool) -> None:
    found = Nvidia((Gpu("a GPU", driver, capability),))
    assert bool(found.usable) is usable


def test_one_old_gpu_beside_a_new_one(smi: Path) -> None:
    write(smi, f'echo "{LISTING}"; echo "Tesla P4, 580.95.05, 6.1"')
    assert look().usable == 1


@pytest.mark.parametrize("sign", ["file", "container", "KUBERNETES_SERVICE_HOST", None])
def test_what_tells_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: str | None) -> None:
    monkeypatch.setattr(nvidia, "_CONTAINER_FILES", (tmp_path / "mark",))
    for variable in nvidia._CONTAINER_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    if sign == "file":
        (tmp_path / "mark").touch()
    elif sign is not None:
        monkeypatch.setenv(sign, "x")
    assert nvidia._in_container() is (sign is not None)


def test_a_container_without_a_gpu_is_told_how_to_get_one(smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "_in_container", lambda: True)
    text, remedy = look().gpu_build_problem()
    assert text == "this is vLLM for GPUs, but the container sees no NVIDIA GPU"
    assert "--gpus all" in remedy
    assert "worker-cpu" in remedy


def test_cards_on_the_bus(tmp_path: Path) -> None:
    for name, vendor, kind in (
        ("0000:01:00.0", "0x10de", "0x030000"),
        ("0000:01:00.1", "0x10de", "0x040300"),  # its audio
        ("0000:02:00.0", "0x10de", "0x030200"),
        ("0000:03:00.0", "0x8086", "0x030000"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    (tmp_path / "unreadable").mkdir()
    assert nvidia_cards(tmp_path) == 2
    assert nvidia_cards(tmp_path / "nowhere") == 0
