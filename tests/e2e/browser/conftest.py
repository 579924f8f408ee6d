"""What the browser tests share: the page, built."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).parents[3] / "web"


def _npm(*arguments: str) -> None:
    npm = shutil.which("npm")
    assert npm is not None, "the browser tests need Node 20 or later and npm on the PATH"
    command = [npm, *arguments]
    done = subprocess.run(command, cwd=WEB, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"npm {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="session")
def built_page() -> Path:
    """The page as the gateway serves it; installed and built here where that was not done yet."""
    if not (WEB / "node_modules" / "playwright-core").is_dir():
        _npm("ci")
    index = WEB / "dist" / "index.html"
    tops = [WEB / name for name in ("index.html", "package-lock.json", "src", "public")]
    sources = [source for top in tops for source in (top, *top.rglob("*"))]
    if not index.is_file() or index.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        _npm("run", "build")
    return index.parent
