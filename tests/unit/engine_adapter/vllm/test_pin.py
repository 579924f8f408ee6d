from __future__ import annotations

import pytest

from engine_adapter.vllm import pin


def test_the_wanted_version_is_accepted_whatever_its_local_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pin.importlib.util, "find_spec", lambda name: object())
    for version in (pin.VLLM_VERSION, f"{pin.VLLM_VERSION}+cpu"):
        assert pin.version_problem(pin.Installed(pin.CPU_DISTRIBUTION, version)) is None
    problem = pin.version_problem(pin.Installed(pin.GPU_DISTRIBUTION, "0.33.0"))
    assert problem is not None
    assert "0.33.0" in problem
    assert pin.VLLM_VERSION in problem


def test_metadata_without_the_package_is_no_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pin.importlib.util, "find_spec", lambda name: None)
    problem = pin.version_problem(pin.Installed(pin.CPU_DISTRIBUTION, pin.VLLM_VERSION))
    assert problem == "vLLM is not installed: run `sluice install-engine`"


def test_a_broken_promise_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks() -> None:
        raise AttributeError("no attribute 'main'")

    promises = (pin.Reliance("entry point", breaks), pin.Reliance("flags", lambda: None))
    monkeypatch.setattr(pin, "relied_on", lambda found: promises)
    assert pin.broken_promises(pin.Installed(None, None)) == [
        "entry point: AttributeError: no attribute 'main'"
    ]


@pytest.mark.vllm
@pytest.mark.filterwarnings("ignore")
def test_the_installed_vllm_keeps_its_promises() -> None:
    found = pin.installed()
    assert pin.version_problem(found) is None
    assert pin.broken_promises(found) == []
