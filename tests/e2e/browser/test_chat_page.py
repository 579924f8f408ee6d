"""The chat page of the running gateway in Chromium; the steps are in the `*.test.mjs` files beside this."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.vllm, pytest.mark.slow]

HERE = Path(__file__).parent
WEB = HERE.parents[2] / "web"
SCRIPTS = sorted(HERE.glob("*.test.mjs"), key=lambda script: script.name)


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


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name.removesuffix(".test.mjs"))
def test_chat_page(built_page: Path, gateway_url: str, script: Path, tmp_path: Path) -> None:
    """Every step of one script passes. `built_page` comes first: the gateway looks for the page at its start.

    Screenshots go to SCREENSHOT_DIR where that is set, else into the test's own folder.
    """
    shots = Path(os.environ.get("SCREENSHOT_DIR", tmp_path))
    environment = os.environ | {"BASE_URL": gateway_url, "SCREENSHOT_DIR": str(shots)}
    command = ["node", "--test", "--test-reporter=tap", str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert re.search(r"^# pass [1-9]", done.stdout, re.MULTILINE), f"no step ran:\n{done.stdout}"
    assert list(shots.glob("*.png")), f"no screenshot in {shots}"
