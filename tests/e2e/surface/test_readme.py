"""The README's examples do what they say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[3] / "README.md"
ADDRESS, MODEL = "http://127.0.0.1:8080", "sluice-base"


def _examples(language: str) -> list[str]:
    blocks: list[str] = re.findall(
        rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL
    )
    return [block for block in blocks if ADDRESS in block]


def _run(command: list[str], url: str, model: str) -> str:
    words = [word.replace(ADDRESS, url).replace(MODEL, model) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python(sluice: Any, model: str) -> None:
    examples = _examples("python")
    assert examples
    for example in examples:
        assert _run([sys.executable, "-c", example], sluice.url, model).strip()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(sluice: Any, model: str) -> None:
    examples = _examples("sh")
    assert examples
    for example in examples:
        assert '"choices"' in _run(["bash", "-ec", example], sluice.url, model)
