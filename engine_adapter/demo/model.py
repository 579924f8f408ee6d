"""A small Llama in plain torch: what the demo models are trained with and measured in process.

It computes the same function as `LlamaForCausalLM` of Transformers and vLLM (RMSNorm, half-rotated RoPE,
grouped-query attention, SwiGLU, tied embedding) and reads and writes the same files. Projections that share
an input are fused (`qkv`, `gate_up`) because on a CPU few large products beat many small ones; the files
hold them split, under the names every loader knows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine_adapter.demo.attention import causal_attention

LayerCache = tuple[Tensor, Tensor]
"""Keys and values of one layer, both `[batch, kv_heads, tokens, head_dim]`, keys already rotated."""


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """Everything that decides the shapes of the weights, in the words of a Hugging Face `config.json`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int = 64
    max_position_embeddings: int = 4096
    rope_theta: float = 500_000.0
    rms_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"{self.num_attention_heads} query heads cannot share {self.num_key_value_heads} key-value "
                "heads evenly; make the first a multiple of the second"
            )

    def parameters(self) -> int:
        """Number of weights, the tied embedding counted once."""
        q, kv = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        attention = self.hidden_size * (2 * q + 2 * kv)
        mlp = 3 * self.hidden_size * self.intermediate_size
        layer = attention + mlp + 2 * self.hidden_size
        return self.vocab_size * self.hidden_size + self.num_hidden_layers * layer + self.hidden_size

    def config(self, *, bos_token_id: int, eos_token_id: int, pad_token_id: int) -> dict[str, object]:
        """The `config.json` that makes vLLM and Transformers build this model."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            **asdict(self),
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": True,
            "initializer_range": 0.02,
            "bos_token_id": bos_token_id,
            "eos_token_id": eos_token_id,
            "pad_token_id": pad_token_id,
            "torch_dtype": "bfloat16",
            "use_cache": True,
        }

    @classmethod
    def from_config(cls, config: dict[str, object]) -> LlamaShape:
        """Inverse of `config`; keys that do not decide a shape are ignored."""
        return cls(**{name: config[name] for name in cls.__slots__ if name in config})  # type: ignore[arg-type]


def rope_tables(shape: LlamaShape, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, both `[length, head_dim]`, for positions 0..length-1."""
    half = shape.head_dim // 2
    inverse = shape.rope_theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), inverse)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().float(), angles.sin().float()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return x * cos + turned * sin


class Layer(nn.Module):  # type: ignore[misc]
    """One decoder layer."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.shape = shape
        q, kv = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
        self.input_norm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)
        self.qkv = nn.Linear(shape.hidden_size, q + 2 * kv, bias=False)
        self.o = nn.Linear(q, shape.hidden_size, bias=False)
        self.mlp_norm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)
        self.gate_up = nn.Linear(shape.hidden_size, 2 * shape.intermediate_size, bias=False)
        self.down = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, past: LayerCache | None, mask: Tensor | None
    ) -> tuple[Tensor, LayerCache]:
        """Map `x` `[batch, tokens, hidden]`; returns the new stream and the layer's whole KV."""
        shape = self.shape
        batch, tokens, _ = x.shape
        heads, kv_heads, dim = shape.num_attention_heads, shape.num_key_value_heads, shape.head_dim
        packed = self.qkv(self.input_norm(x)).view(batch, tokens, heads + 2 * kv_heads, dim).transpose(1, 2)
        turned = _rotate(packed[:, : heads + kv_heads], cos.to(packed.dtype), sin.to(packed.dtype))
        q, k, v = turned[:, :heads], turned[:, heads:], packed[:, heads + kv_heads :]
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        shared = (k, v)
        if kv_heads != heads:
            k, v = (t.repeat_interleave(heads // kv_heads, dim=1) for t in shared)
        if past is not None or mask is not None:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        elif self.training:
            mixed = causal_attention(q, k, v)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(mixed.transpose(1, 2).reshape(batch, tokens, heads * dim))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up), shared


class Llama(nn.Module):  # type: ignore[misc]
    """The decoder with a tied output embedding."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)
        cos, sin = rope_tables(shape, shape.max_position_embeddings)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def initialise(self, seed: int) -> None:
        """Draw all weights from one generator: normal, with the residual outputs scaled down by depth."""
        generator = torch.Generator().manual_seed(seed)
        depth_scale = (2 * self.shape.num_hidden_layers) ** -0.5
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.dim() == 1:
                    weight.fill_(1.0)
                    continue
                std = 0.02 if name == "embed.weight" else weight.shape[1] ** -0.5
                if name.endswith(("o.weight", "down.weight")):
                    std *= depth_scale
                weight.normal_(0.0, std, generator=generator)

    def hidden(
        self,
        tokens: Tensor,
        *,
        positions: Tensor | None = None,
        past: list[LayerCache] | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, list[LayerCache]]:
        """Final normalised stream `[batch, tokens, hidden]` and the KV of every layer, the past included.

        `positions` `[batch, tokens]` default to the places after the past; `mask` is a boolean
        `[batch, 1, tokens, past + tokens]` (true = may attend) and replaces the causal rule.
        """
        start = past[0][0].shape[2] if past else 0
        if positions is None:
            cos = self.cos[start : start + tokens.shape[1]]
            sin = self.sin[start : start + tokens.shape[1]]
        else:
            cos, sin = self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)
        if past is not None and mask is None and tokens.shape[1] > 1:
            mask = torch.ones(tokens.shape[1], start + tokens.shape[1], dtype=torch.bool).tril(start)
        x = self.embed(tokens)
        cache: list[LayerCache] = []
        for index, layer in enumerate(self.layers):
            x, kv = layer(x, cos, sin, past[index] if past else None, mask)
            cache.append(kv)
        return self.norm(x), cache

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary for any `[..., hidden]`."""
        return F.linear(hidden, self.embed.weight)
