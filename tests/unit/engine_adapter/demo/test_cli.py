"""The commands say what they do and refuse what they cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine_adapter.demo.cli import app

pytestmark = pytest.mark.usefixtures("one_thread")

runner = CliRunner()


def test_help_lists_the_commands() -> None:
    result = runner.invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in ("train", "eval", "sample", "random-llama", "tokenizer"):
        assert command in result.output


def test_help_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys; import engine_adapter.demo.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_wording_is_checked() -> None:
    result = runner.invoke(app, ["eval", "--wording", "loud"])
    assert result.exit_code == 2


def test_eval_writes_scores(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "scores.json"
    arguments = [
        "eval",
        "--task",
        "one_hop",
        "--length",
        "120",
        "--cases",
        "3",
        "--control",
        "1",
        "--json",
        str(out),
    ]
    result = runner.invoke(app, [*arguments, "--kv", "engine_adapter.demo.generate:prefill"])
    assert result.exit_code == 0, result.output
    scores = json.loads(out.read_text())
    assert scores["scores"][0]["of"] == 3
    assert scores["kv"]["agreement"] == 1.0


def test_random_llama_writes_a_model(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    result = runner.invoke(app, ["random-llama", "--out", str(tmp_path / "r"), "--parameters", "4e5"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "r" / "model.safetensors").is_file()
    assert json.loads((tmp_path / "r" / "config.json").read_text())["hidden_size"] == 64
