"""The shim that lets podman's containers start where the hard limit on open files cannot be raised."""

from __future__ import annotations

import importlib.util
import json
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def shim(repository: Path) -> ModuleType:
    loader = SourceFileLoader("runc_shim", str(repository / "deploy" / "podman" / "runc-shim"))
    spec = importlib.util.spec_from_loader("runc_shim", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_limits_are_dropped_and_all_else_is_kept(shim: ModuleType, tmp_path: Path) -> None:
    bundle = tmp_path / "config.json"
    bundle.write_text(
        json.dumps({"process": {"args": ["a"], "rlimits": [{"type": "RLIMIT_NOFILE"}]}, "root": {}})
    )
    shim.without_limits(bundle, "process")
    assert json.loads(bundle.read_text()) == {"process": {"args": ["a"]}, "root": {}}


def test_a_process_description_has_them_at_its_top(shim: ModuleType, tmp_path: Path) -> None:
    process = tmp_path / "process.json"
    process.write_text(json.dumps({"args": ["a"], "rlimits": []}))
    before = process.read_text()
    shim.without_limits(process)
    assert process.read_text() == before
    process.write_text(json.dumps({"args": ["a"], "rlimits": [1]}))
    shim.without_limits(process)
    assert json.loads(process.read_text()) == {"args": ["a"]}


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["create", "--bundle", "/b", "id"], "/b"),
        (["create", "--bundle=/b", "id"], "/b"),
        (["create", "-b", "/b", "id"], "/b"),
        (["create", "id"], None),
    ],
)
def test_where_the_bundle_is(shim: ModuleType, arguments: list[str], found: str | None) -> None:
    assert shim.option(arguments, "--bundle", "-b") == found
