"""Each check of `sluice doctor`, with a healthy and an ill machine."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine_adapter import doctor, install
from engine_adapter.doctor import Finding
from engine_adapter.launch.hardware import Hardware
from engine_adapter.launch.nvidia import Gpu, Nvidia
from engine_adapter.vllm import pin

GiB = 1 << 30
CPU_BUILD = pin.Installed(pin.CPU_DISTRIBUTION, pin.VLLM_VERSION)
GPU_BUILD = pin.Installed(pin.GPU_DISTRIBUTION, pin.VLLM_VERSION)
CLOSURE = install.pinned(install.REQUIREMENTS / "cpu.txt") | {"torch": pin.CPU_TORCH.partition("==")[2]}


H100 = Gpu("NVIDIA H100 80GB HBM3", "580.95.05", (9, 0))
NO_GPU = Nvidia()
ONE_GPU = Nvidia((H100,), cards=1)
OLD_DRIVER = Nvidia((Gpu("NVIDIA H100 80GB HBM3", "535.104.05", (9, 0)),), cards=1)


def known(nvidia: Nvidia = NO_GPU, installed: Mapping[str, str] = CLOSURE) -> install.Facts:
    return install.Facts(nvidia.usable, "Linux", "x86_64", installed, nvidia=nvidia)


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


def engine(known: install.Facts, found: pin.Installed, *, numa: bool = True) -> dict[str, Finding]:
    return by_check(doctor.check_engine(known, found, lambda library: numa))


@pytest.mark.usefixtures("importable")
def test_a_good_engine() -> None:
    findings = engine(known(), CPU_BUILD)
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
def test_a_cpu_build_beside_a_gpu() -> None:
    assert_mendable(engine(known(ONE_GPU), CPU_BUILD)["build"], "warn", "CPU build is installed")
    assert "build" not in engine(known(ONE_GPU), GPU_BUILD)


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize(
    ("nvidia", "text", "remedy"),
    [
        (NO_GPU, "there is no NVIDIA GPU", "run `sluice install-engine`"),
        (Nvidia(cards=1), "no driver", "install the NVIDIA driver"),
        (OLD_DRIVER, "535.104.05 is too old", "update the driver to release 580"),
    ],
)
def test_a_gpu_build_without_a_gpu(nvidia: Nvidia, text: str, remedy: str) -> None:
    finding = engine(known(nvidia), GPU_BUILD)["build"]
    assert_mendable(finding, "fail", text)
    assert finding.remedy.startswith(remedy)
    assert "CPU build" in finding.remedy


@pytest.mark.usefixtures("importable")
def test_the_image_for_gpus_on_a_machine_without_one() -> None:
    finding = engine(known(Nvidia(in_container=True)), GPU_BUILD)["build"]
    assert_mendable(finding, "fail", "the container sees no NVIDIA GPU")
    assert "--gpus all" in finding.remedy
    assert "install-engine" not in finding.remedy, "an image is not changed from inside"


def test_both_builds_at_once() -> None:
    both = {**CLOSURE, pin.CPU_DISTRIBUTION: pin.VLLM_VERSION, pin.GPU_DISTRIBUTION: pin.VLLM_VERSION}
    (finding,) = doctor.check_engine(known(installed=both), CPU_BUILD)
    assert_mendable(finding, "fail", "overwritten each other's files")


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("torch", ["2.13.0", "2.12.1+cpu", None])
def test_a_torch_that_the_cpu_build_was_not_made_for(torch: str | None) -> None:
    installed = {name: version for name, version in CLOSURE.items() if name != "torch"}
    findings = engine(known(installed=installed | ({"torch": torch} if torch else {})), CPU_BUILD)
    assert_mendable(findings["torch"], "fail", torch or "not installed")


@pytest.mark.usefixtures("importable")
def test_a_library_that_the_kernels_are_linked_against() -> None:
    assert_mendable(engine(known(), CPU_BUILD, numa=False)["libnuma"], "fail", "libnuma.so.1")
    assert "libnuma" not in engine(known(ONE_GPU), GPU_BUILD, numa=False)


@pytest.mark.usefixtures("importable")
def test_an_incomplete_engine() -> None:
    partial = {name: version for name, version in CLOSURE.items() if name != "transformers"}
    findings = engine(known(installed=partial), CPU_BUILD)
    assert_mendable(findings["vllm needs"], "fail", "transformers")


def test_the_torchvision_trap(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> object:
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    monkeypatch.setattr(pin.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(pin.importlib, "import_module", fails)
    finding = engine(known(), CPU_BUILD)["torchvision"]
    assert_mendable(finding, "fail", "torchvision::nms does not exist")
    assert "sluice install-engine" in finding.remedy
    assert f"pip install vllm=={pin.VLLM_VERSION}" in engine(known(ONE_GPU), GPU_BUILD)["torchvision"].remedy


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
    finding = doctor.check_gpu(Nvidia((H100, H100)))
    assert finding.text == "2 NVIDIA GPUs (NVIDIA H100 80GB HBM3), driver 580.95.05"
    assert doctor.check_gpu(NO_GPU).level == "ok"


@pytest.mark.parametrize(
    ("nvidia", "text", "remedy"),
    [
        (Nvidia(cards=1), "no driver that lists it", "install the NVIDIA driver"),
        (Nvidia(trouble="Driver/library version mismatch", cards=1), "version mismatch", "restart"),
        (Nvidia(cards=1, in_container=True), "the container sees no NVIDIA GPU", "--gpus all"),
        (OLD_DRIVER, "535.104.05 is too old", "update the driver to release 580"),
        (Nvidia((Gpu("Tesla P100", "580.95.05", (6, 0)),)), "compute capability 6.0", "Turing"),
    ],
)
def test_a_gpu_that_cannot_be_used(nvidia: Nvidia, text: str, remedy: str) -> None:
    finding = doctor.check_gpu(nvidia)
    assert_mendable(finding, "warn", text)
    assert remedy in finding.remedy


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert_mendable(doctor.check_port("127.0.0.1", port), "warn", f"port {port} is in use by")
    assert doctor.check_port("127.0.0.1", 0).level == "ok"


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine(host: str) -> None:
    assert_mendable(doctor.check_port(host, 8080), "fail", f"{host} is no address of this machine")


def test_a_port_for_root_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine_adapter.doctor.machine.bind_error", lambda *_: PermissionError(13, "no"))
    assert_mendable(doctor.check_port("127.0.0.1", 80), "fail", "may not listen on port 80")


def test_a_directory_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = doctor.check_disk(tmp_path / "file" / "state")
    assert_mendable(finding, "fail", f"cannot write to {tmp_path / 'file'}")
    assert "--state-dir" in finding.remedy


@pytest.mark.parametrize(("free", "level"), [(1 << 27, "fail"), (1 << 30, "warn"), (1 << 34, "ok")])
def test_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    assert doctor.check_disk(tmp_path).level == level


def test_no_line_without_advice() -> None:
    with pytest.raises(ValueError, match="remedy"):
        Finding("x", "fail", "broken")
    with pytest.raises(ValueError, match="remedy"):
        Finding("x", "ok", "fine", "do something")


def test_engine_internals_report_what_the_test_process_says(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'findings:[\"server flags: it does not know --x\"]'\n")
    python.chmod(0o755)
    finding = doctor.check_engine_internals(str(python))
    assert_mendable(finding, "fail", "server flags: it does not know --x")
    assert "--reinstall" in finding.remedy
    python.write_text("#!/bin/sh\necho 'ImportError: no such library' >&2; exit 1\n")
    assert_mendable(doctor.check_engine_internals(str(python)), "fail", "no such library")
