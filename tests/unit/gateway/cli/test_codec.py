"""`sluice codec` lists what there is and refuses what it cannot do."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from gateway.cli.codec import app

runner = CliRunner()


def test_help_needs_neither_torch_nor_numba() -> None:
    code = (
        "import sys; import gateway.cli.codec; sys.exit(bool({'torch', 'numba', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_model_is_a_message() -> None:
    pytest.importorskip("torch")
    result = runner.invoke(app, ["train", "--model", "nobody"])
    assert result.exit_code == 2
    assert "nobody" in result.output


def test_list_names_all_codecs() -> None:
    pytest.importorskip("numba")
    result = runner.invoke(app, ["list"])
    assert result.exit_code == 0
    for name in ("raw", "lossless", "fp8", "int8", "cachegen", "weir"):
        assert name in result.output
