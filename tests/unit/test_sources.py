"""What no source of the product contains, because elsewhere it let strangers run code or made caches lie."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("gateway", "engine_adapter", "cache", "kernels")
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]

RUN_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "diskcache", "joblib"}
"""Formats and stores whose reading runs what was written."""
CALLS = {"eval", "exec", "compile", "__import__"}


def faults(tree: ast.Module, room: str) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for name in names:
                    if name.name.partition(".")[0] in RUN_CODE:
                        yield f"line {node.lineno} imports {name.name}"
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in RUN_CODE:
                yield f"line {node.lineno} imports {module}"
            case ast.Call(func=ast.Name(id=called)) if called in CALLS:
                yield f"line {node.lineno} calls {called}"
            case ast.Call(func=ast.Name(id="hash")) if room == "cache":
                yield f"line {node.lineno} calls hash(), which differs between processes"
            case ast.Call(keywords=keywords):
                for keyword in keywords:
                    setting = (keyword.arg, getattr(keyword.value, "value", None))
                    if setting in (("shell", True), ("allow_pickle", True), ("weights_only", False)):
                        yield f"line {node.lineno} has {keyword.arg}={setting[1]}"
            case _:
                pass


def test_no_source_runs_what_it_reads() -> None:
    assert len(SOURCES) > 200
    found = {
        str(path.relative_to(ROOT)): told
        for path in SOURCES
        if (told := list(faults(ast.parse(path.read_text()), path.relative_to(ROOT).parts[0])))
    }
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import os, marshal",
        "eval(x)",
        "hash(tokens)",
        "subprocess.run(x, shell=True)",
        "np.load(f, allow_pickle=True)",
        "torch.load(f, weights_only=False)",
    ],
)
def test_what_is_looked_for_is_found(text: str) -> None:
    assert len(list(faults(ast.parse(text), "cache"))) == 1
