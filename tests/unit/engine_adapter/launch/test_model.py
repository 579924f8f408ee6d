from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine_adapter.launch import model as models
from engine_adapter.launch.model import Model, ModelError, cpu_kv_cache_bytes, find_model, kv_bytes_per_token

GiB = 1 << 30
LLAMA_8B = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "max_position_embeddings": 8192,
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text(json.dumps(LLAMA_8B))
    return tmp_path / "tiny"


def test_a_directory_is_served_under_its_name(directory: Path) -> None:
    assert find_model(str(directory)) == Model(str(directory), "tiny", local=True)
    assert find_model(str(directory), "other").name == "other"


def test_a_hub_name_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_model("Qwen/Qwen3-0.6B") == Model("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", local=False)


@pytest.mark.parametrize("path", ["/no/such/model", "./nothing", "~/nothing-here", "a/b/c"])
def test_a_path_that_leads_nowhere_is_refused(path: str) -> None:
    with pytest.raises(ModelError, match="no model directory"):
        find_model(path)


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"without config\.json"):
        find_model(str(tmp_path))


def test_the_default_is_the_shipped_model(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "SHIPPED_MODEL", directory)
    found = find_model(None)
    assert (found.source, found.name, found.local) == (str(directory), "sluice-base", True)
    assert ("--tool-call-parser", "hermes") in found.flags
    monkeypatch.setattr(models, "SHIPPED_MODEL", directory / "absent")
    with pytest.raises(ModelError, match="give --model"):
        find_model(None)


def test_the_text_part_of_a_multimodal_config_counts(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"text_config": LLAMA_8B}))
    assert find_model(str(tmp_path)).config() == LLAMA_8B


def test_kv_bytes_per_token_of_a_known_model() -> None:
    assert kv_bytes_per_token(LLAMA_8B) == 2 * 32 * 8 * 128 * 2
    assert kv_bytes_per_token({}) is None


@pytest.mark.parametrize(
    ("config", "free", "workers", "least", "most"),
    [
        # One prompt of 8192 tokens takes 1 GiB: it fits even where little is free.
        (LLAMA_8B, 2 * GiB, 1, 1 * GiB, 1.2 * GiB),
        # With plenty of memory sixteen such prompts.
        (LLAMA_8B, 1024 * GiB, 1, 16 * GiB, 18 * GiB),
        # Two workers share.
        (LLAMA_8B, 32 * GiB, 2, 4 * GiB, 4 * GiB),
        # Unknown: modest.
        ({}, 32 * GiB, 1, 1 * GiB, 1 * GiB),
    ],
)
def test_the_cpu_cache_is_generous_within_free_memory(
    config: dict[str, int], free: int, workers: int, least: float, most: float
) -> None:
    assert least <= cpu_kv_cache_bytes(config, None, free, workers) <= most


def test_a_shorter_context_needs_less() -> None:
    long = cpu_kv_cache_bytes(LLAMA_8B, 8192, 64 * GiB, 1)
    assert cpu_kv_cache_bytes(LLAMA_8B, 1024, 64 * GiB, 1) < long
