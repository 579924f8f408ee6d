"""What load tests import exists: type checks leave them out, and most run by hand only."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("gateway", "engine_adapter", "cache", "kernels", "loadtests", "tests")
SCRIPTS = sorted((ROOT / "loadtests").rglob("*.py"))


def file_of(module: str) -> Path | None:
    """The source of one of our modules; a package is its `__init__`."""
    path = ROOT / module.replace(".", "/")
    found = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in found if file.is_file()), None)


@cache
def names_in(file: Path) -> set[str]:
    """What a module has at its top, whatever it stands under."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.Import(names=imported) | ast.ImportFrom(names=imported):
                names |= {alias.asname or alias.name.partition(".")[0] for alias in imported}
            case _:
                pass
    return names


def missing(tree: ast.Module) -> list[str]:
    """Modules and names of ours that are imported and are not there."""
    told = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            wanted = [(node.module, alias.name) for alias in node.names]
        else:
            continue
        for module, name in wanted:
            if module.partition(".")[0] not in ROOMS:
                continue
            file = file_of(module)
            if file is None and not (ROOT / module.replace(".", "/")).is_dir():
                told.append(module)
            elif name is None or file_of(f"{module}.{name}") is not None:
                continue
            elif file is None or name not in names_in(file):
                told.append(f"{module}.{name}")
    return told


@pytest.mark.parametrize("script", SCRIPTS, ids=[str(path.relative_to(ROOT)) for path in SCRIPTS])
def test_what_it_imports_is_there(script: Path) -> None:
    assert missing(ast.parse(script.read_text())) == []


@pytest.mark.parametrize(
    "text", ["import cache.nothing", "from cache.keys import nothing", "from loadtests.kv import nothing"]
)
def test_what_is_not_there_is_found(text: str) -> None:
    assert len(missing(ast.parse(text))) == 1
