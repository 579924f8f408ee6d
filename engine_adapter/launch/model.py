"""Which model a worker is to load: directory or hub name, public name, and its appetite for memory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHIPPED_MODEL = Path(__file__).resolve().parent.parent / "demo" / "models" / "base"
SHIPPED_NAME = "sluice-base"
SHIPPED_FLAGS = (
    ("--enable-auto-tool-choice", None),
    ("--tool-call-parser", "hermes"),
    ("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
)
"""What vLLM is to do for the shipped model: parse its tool calls, and leave it no choice of white space in
JSON, on which a small model can spend a whole answer."""

_MiB = 1 << 20
_CPU_KV_LEAST = 128 * _MiB
_CPU_KV_UNKNOWN = 1024 * _MiB
"""For a model whose config.json is not here or does not tell."""
_CPU_KV_SEQUENCES = 16
"""So many prompts of the greatest length are worth keeping. vLLM fills the cache with zeros at its start,
seconds for each GiB, so more than is useful costs time as well as memory."""
_CPU_KV_SHARE = 0.25
"""Of the free memory, all workers together."""


class ModelError(ValueError):
    """The model cannot be what the operator meant; the message says what to give instead."""


@dataclass(frozen=True, slots=True)
class Model:
    """`source` is what the engine loads, `name` what clients ask for."""

    source: str
    name: str
    local: bool
    flags: tuple[tuple[str, str | None], ...] = ()
    """Engine flags that it needs; the operator's own win."""

    def config(self) -> dict[str, Any]:
        """The text part of a local model's config.json; empty for a model that is not here yet."""
        if not self.local:
            return {}
        try:
            document: dict[str, Any] = json.loads((Path(self.source) / "config.json").read_text())
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot read {self.source}/config.json: {error}") from error
        nested = document.get("text_config")
        return nested if isinstance(nested, dict) else document


def find_model(model: str | None, served_name: str | None = None) -> Model:
    """What `--model` means.

    Anything that exists as a directory is one; so is what is written like a path, which then has to exist.
    Everything else is a name on the hub.
    """
    if model is None:
        if not (SHIPPED_MODEL / "config.json").is_file():
            raise ModelError(
                f"the model that ships with Sluice is not at {SHIPPED_MODEL}: "
                "give --model a directory or a hub name"
            )
        return Model(str(SHIPPED_MODEL), served_name or SHIPPED_NAME, local=True, flags=SHIPPED_FLAGS)
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{model} is a directory without config.json, so it holds no model")
        resolved = path.resolve()
        return Model(str(resolved), served_name or resolved.name, local=True)
    if model.startswith(("/", ".", "~")) or model.count("/") > 1 or path.exists():
        raise ModelError(f"there is no model directory at {model}")
    return Model(model, served_name or model, local=False)


def kv_bytes_per_token(config: dict[str, Any], dtype_bytes: int = 2) -> int | None:
    """Keys and values of one token in all layers, in bytes; None if config.json does not tell."""
    heads = config.get("num_key_value_heads") or config.get("num_attention_heads")
    layers = config.get("num_hidden_layers")
    head_dim = config.get("head_dim")
    if not head_dim and config.get("hidden_size") and config.get("num_attention_heads"):
        head_dim = config["hidden_size"] // config["num_attention_heads"]
    if not (heads and layers and head_dim):
        return None
    return 2 * int(layers) * int(heads) * int(head_dim) * dtype_bytes


def cpu_kv_cache_bytes(
    config: dict[str, Any], max_model_len: int | None, free_bytes: int, workers: int
) -> int:
    """A KV cache size for one of `workers` workers on a CPU: generous, but leaving most memory free.

    vLLM would otherwise take a share of the machine's whole memory, which a second worker cannot have again.
    One prompt of the greatest length fits in any case; whether the memory is there is for vLLM to say.
    """
    share = int(free_bytes * _CPU_KV_SHARE / max(workers, 1))
    per_token = kv_bytes_per_token(config)
    length = max_model_len or config.get("max_position_embeddings")
    if not (per_token and length):
        return max(min(_CPU_KV_UNKNOWN, share), _CPU_KV_LEAST)
    one = int(1.1 * per_token * int(length))
    return max(min(_CPU_KV_SEQUENCES * one, share), one, _CPU_KV_LEAST)
