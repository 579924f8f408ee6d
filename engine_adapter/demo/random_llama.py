"""Seeded Llamas with random weights: right for load tests, where only sizes and speeds matter."""

from __future__ import annotations

from pathlib import Path

from engine_adapter.demo.checkpoint import save_model
from engine_adapter.demo.model import Llama, LlamaShape
from engine_adapter.demo.tokenizer import load_tokenizer, save_tokenizer

_SIZES = (
    (64, 2),
    (128, 2),
    (192, 4),
    (256, 6),
    (384, 8),
    (512, 10),
    (640, 12),
    (768, 12),
    (1024, 16),
    (1536, 20),
    (2048, 24),
)


def shape_for(parameters: float, vocab_size: int) -> LlamaShape:
    """The shape of a common aspect ratio whose parameter count is nearest to `parameters`."""
    shapes = [
        LlamaShape(
            vocab_size=vocab_size,
            hidden_size=hidden,
            intermediate_size=hidden * 8 // 3 // 64 * 64,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 64,
            num_key_value_heads=hidden // 64 if (hidden // 64) % 4 else hidden // 256,
            max_position_embeddings=8192,
        )
        for hidden, layers in _SIZES
    ]
    return min(shapes, key=lambda shape: abs(shape.parameters() - parameters))


def write_random_llama(out: Path, *, parameters: float, seed: int, tokenizer_from: Path) -> LlamaShape:
    """Write a random-weight model with the tokenizer and chat template of a shipped one; returns its
    shape."""
    tokenizer = load_tokenizer(tokenizer_from)
    shape = shape_for(parameters, tokenizer.get_vocab_size())
    model = Llama(shape)
    model.initialise(seed)
    save_model(out, shape, dict(model.named_parameters()), tokenizer)
    save_tokenizer(tokenizer, out)
    return shape
