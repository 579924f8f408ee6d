"""Each check of `sluice doctor`, with a healthy and an ill machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from engine_adapter import doctor, install
from engine_adapter.doctor import Finding
from engine_adapter.launch.hardware import Hardware
from engine_adapter.vllm import pin

GiB = 1 << 30
CPU_BUILD = pin.Installed(pin.CPU_DISTRIBUTION, pin.VLLM_VERSION)
GPU_BUILD = pin.Installed(pin.GPU_DISTRIBUTION, pin.VLLM_VERSION)
CLOSURE = install.pinned(install.REQUIREMENTS / "cpu.txt")


def known(gpus: int = 0, installed: Mapping[str, str] = CLOSURE) -> install.Facts:
    return install.Facts(gpus, "Linux", "x86_64", installed)


def assert_mendable(finding: Finding, level: str, words: str) -> None:
    assert finding.level == level
    assert words in finding.text
    assert finding.remedy, "a finding that is not ok says how to mend it"


def test_python_version() -> None:
    assert doctor.check_python((3, 12, 1)).level == "ok"
    assert_mendable(doctor.check_python((3, 9, 0)), "fail", "3.9.0")


def test_platform() -> None:
    assert doctor.check_platform("Linux", "x86_64").level == "ok"
    assert_mendable(doctor.check_platform("Darwin", "arm64"), "warn", "Darwin")


def test_somebody_else_owns_a_package_name() -> None:
    owners = {"gateway": ["sluice"], "kernels": ["kernels", "sluice"], "cache": ["sluice"]}
    finding = doctor.check_package_names(owners)
    assert_mendable(finding, "fail", "`kernels` also belongs to kernels")
    assert "pip uninstall kernels" in finding.remedy


def test_nobody_else_owns_a_package_name() -> None:
    assert doctor.check_package_names({"gateway": ["sluice"], "numpy": ["numpy"]}).level == "ok"


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """`vllm` can be found and torchvision cannot, whatever is installed here."""
    monkeypatch.setattr(pin.importlib.util, "find_spec", lambda name: object() if name == "vllm" else None)


def by_check(findings: object) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}  # type: ignore[attr-defined]


@pytest.mark.usefixtures("importable")
def test_a_good_engine() -> None:
    findings = by_check(doctor.check_engine(known(), CPU_BUILD))
    assert {finding.level for finding in findings.values()} == {"ok"}


def test_no_engine() -> None:
    (finding,) = doctor.check_engine(known(), pin.Installed(None, None))
    assert_mendable(finding, "fail", "vLLM is not installed")
    assert "sluice install-engine" in finding.remedy


@pytest.mark.usefixtures("importable")
def test_another_version_of_the_engine() -> None:
    (finding,) = doctor.check_engine(known(), pin.Installed(pin.CPU_DISTRIBUTION, "0.31.0"))
    assert_mendable(finding, "fail", "0.31.0")


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize(
    ("gpus", "build", "level"), [(1, CPU_BUILD, "warn"), (0, GPU_BUILD, "fail"), (1, GPU_BUILD, None)]
)
def test_a_build_that_does_not_fit_the_machine(gpus: int, build: pin.Installed, level: str | None) -> None:
    findings = by_check(doctor.check_engine(known(gpus), build))
    if level is None:
        assert "build" not in findings
    else:
        assert_mendable(findings["build"], level, "build is installed")


@pytest.mark.usefixtures("importable")
def test_an_incomplete_engine() -> None:
    partial = {name: version for name, version in CLOSURE.items() if name != "transformers"}
    findings = by_check(doctor.check_engine(known(installed=partial), CPU_BUILD))
    assert_mendable(findings["vllm needs"], "fail", "transformers")


def test_the_torchvision_trap(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> object:
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    monkeypatch.setattr(pin.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(pin.importlib, "import_module", fails)
    findings = by_check(doctor.check_engine(known(), CPU_BUILD))
    assert_mendable(findings["torchvision"], "fail", "torchvision::nms does not exist")
    assert "sluice install-engine" in findings["torchvision"].remedy


def test_a_torchvision_that_fits_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pin.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(pin.importlib, "import_module", lambda name: object())
    assert pin.torchvision_problem() is None


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 8}))
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    return tmp_path


def test_a_whole_model(model: Path) -> None:
    assert doctor.check_model(str(model)).level == "ok"


def test_a_hub_model_is_not_judged() -> None:
    assert doctor.check_model("org/model").level == "ok"


def test_a_model_without_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()
    assert_mendable(doctor.check_model(str(model)), "fail", "no weights")


def test_a_model_whose_weights_were_not_fetched(model: Path) -> None:
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert_mendable(doctor.check_model(str(model)), "fail", "Git LFS pointer")


def test_a_broken_model_config(model: Path) -> None:
    (model / "config.json").write_text("{")
    assert_mendable(doctor.check_model(str(model)), "fail", "cannot read")


def test_a_model_that_is_not_there() -> None:
    assert_mendable(doctor.check_model("/no/such/model"), "fail", "no model directory")


@pytest.mark.parametrize(("free", "level"), [(16 * GiB, "ok"), (3 * GiB, "warn"), (GiB, "fail")])
def test_memory(free: int, level: str) -> None:
    finding = doctor.check_memory(Hardware(cores=2, free_bytes=free, gpus=0))
    assert finding.level == level
    assert bool(finding.remedy) == (level != "ok")


def test_disk_of_a_directory_that_does_not_exist_yet(tmp_path: Path) -> None:
    assert str(tmp_path) in doctor.check_disk(tmp_path / "not" / "yet").text


@pytest.mark.parametrize(("limit", "level"), [(1024, "warn"), (65536, "ok"), (-1, "ok")])
def test_open_files(limit: int, level: str) -> None:
    assert doctor.check_open_files(limit).level == level


def test_gpus_are_counted() -> None:
    assert "2 NVIDIA GPUs" in doctor.check_gpu(Hardware(8, GiB, 2)).text
    assert "CPU build" in doctor.check_gpu(Hardware(8, GiB, 0)).text


def test_engine_internals_report_what_the_test_process_says(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'findings:[\"server flags: it does not know --x\"]'\n")
    python.chmod(0o755)
    assert_mendable(doctor.check_engine_internals(str(python)), "fail", "--x")
    python.write_text("#!/bin/sh\necho 'ImportError: no such library' >&2; exit 1\n")
    assert_mendable(doctor.check_engine_internals(str(python)), "fail", "no such library")
