"""The chat page of the running gateway in Chromium; the steps are in the `*.test.mjs` files beside this."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.vllm, pytest.mark.slow]

HERE = Path(__file__).parent
ELSEWHERE = {"eloquent.test.mjs", "firefox.test.mjs"}
"""Scripts that need another gateway or browser."""
SCRIPTS = sorted(script for script in HERE.glob("*.test.mjs") if script.name not in ELSEWHERE)


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
