"""OpenAI's Node client against the gateway; the steps are in `tests/e2e/node`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None, reason="needs Node 20 or newer and npm"
)

NODE = Path(__file__).parents[1] / "node"


@pytest.fixture(scope="session")
def node_packages() -> Path:
    """The folder with the SDK, installed as its lock file says."""
    lock = NODE / "package-lock.json"
    installed = NODE / "node_modules" / ".package-lock.json"
    if not installed.is_file() or installed.stat().st_mtime < lock.stat().st_mtime:
        command = ["npm", "ci", "--loglevel=error"]
        done = subprocess.run(command, cwd=NODE, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    return NODE


def test_openai_for_node(
    node_packages: Path, sluice: Any, model: str, alias: str, no_blanks: dict[str, int]
) -> None:
    environment = os.environ | {
        "BASE_URL": sluice.url,
        "MODEL": model,
        "ALIAS": alias,
        "LOGIT_BIAS": json.dumps(no_blanks),
    }
    command = ["node", "--test", "--test-reporter=tap", "openai.test.mjs"]
    done = subprocess.run(
        command, cwd=node_packages, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^# pass 9$", done.stdout, re.MULTILINE), done.stdout


def test_kept_streams_with_openai_for_node(node_packages: Path, sluice: Any, model: str) -> None:
    environment = os.environ | {"BASE_URL": sluice.url, "MODEL": model}
    command = ["node", "--test", "--test-reporter=tap", "streams.test.mjs"]
    done = subprocess.run(
        command, cwd=node_packages, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^# pass 4$", done.stdout, re.MULTILINE), done.stdout
