"""Twenty seconds of `loadtests.chaos`; `python -m loadtests.chaos --minutes 10` is the real thing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_no_request_is_lost_while_workers_die() -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "loadtests.chaos", "--minutes", "0.33", "--clients", "12"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=150, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "nothing lost, nothing leaked" in run.stdout
