"""Model folders as vLLM loads them, and resumable training states, both in safetensors."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from engine_adapter.demo.chat import BOS, END, PAD
from engine_adapter.demo.model import Llama, LlamaShape
from engine_adapter.demo.tokenizer import save_tokenizer, special_id

_HUB_NAMES = {
    "embed.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "input_norm.weight": "input_layernorm.weight",
    "mlp_norm.weight": "post_attention_layernorm.weight",
    "o.weight": "self_attn.o_proj.weight",
    "down.weight": "mlp.down_proj.weight",
}
_SPLIT_NAMES = {
    "qkv.weight": ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
    "gate_up.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
}


def hub_weights(shape: LlamaShape, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fused training weights under the names and shapes of a Llama checkpoint, in bfloat16."""
    q, kv = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    sizes = {"qkv.weight": [q, kv, kv], "gate_up.weight": [shape.intermediate_size] * 2}
    named: dict[str, Tensor] = {}
    for name, weight in weights.items():
        prefix, short = "", name
        if name.startswith("layers."):
            _, index, short = name.split(".", 2)
            prefix = f"model.layers.{index}."
        if short in _SPLIT_NAMES:
            for part, piece in zip(_SPLIT_NAMES[short], weight.split(sizes[short]), strict=True):
                named[prefix + part] = piece
        else:
            named[prefix + _HUB_NAMES[short]] = weight
    return {name: weight.detach().bfloat16().contiguous().clone() for name, weight in named.items()}


def fused_weights(shape: LlamaShape, named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of `hub_weights`, in float32."""
    weights = {
        "embed.weight": named["model.embed_tokens.weight"],
        "norm.weight": named["model.norm.weight"],
    }
    for index in range(shape.num_hidden_layers):
        source, target = f"model.layers.{index}.", f"layers.{index}."
        for short in ("input_norm.weight", "mlp_norm.weight", "o.weight", "down.weight"):
            weights[target + short] = named[source + _HUB_NAMES[short]]
        for short, parts in _SPLIT_NAMES.items():
            weights[target + short] = torch.cat([named[source + part] for part in parts])
    return {name: weight.float() for name, weight in weights.items()}


def save_model(folder: Path, shape: LlamaShape, weights: dict[str, Tensor], tokenizer: Tokenizer) -> None:
    """Write a whole model folder: settings, weights, tokenizer and chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    bos, end, pad = (special_id(tokenizer, token) for token in (BOS, END, PAD))
    ids = {"bos_token_id": bos, "eos_token_id": end, "pad_token_id": pad}
    (folder / "config.json").write_text(json.dumps(shape.config(**ids), indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({**ids, "do_sample": False}, indent=2) + "\n")
    save_file(hub_weights(shape, weights), folder / "model.safetensors", metadata={"format": "pt"})
    save_tokenizer(tokenizer, folder)


def load_model(folder: Path) -> Llama:
    """Build a model from a folder that `save_model` (or Transformers, if its shape allows) has written."""
    shape = LlamaShape.from_config(json.loads((folder / "config.json").read_text()))
    model = Llama(shape)
    model.load_state_dict(fused_weights(shape, load_file(folder / "model.safetensors")))
    model.eval()
    return model


def save_state(path: Path, tensors: dict[str, Tensor], progress: dict[str, object]) -> None:
    """Write a training state; the old one is replaced only when the new one is complete."""
    draft = path.with_suffix(".part")
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        draft,
        metadata={"progress": json.dumps(progress)},
    )
    draft.replace(path)


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Read what `save_state` wrote."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        progress = json.loads(file.metadata()["progress"])
    return load_file(path), progress
