"""Causal attention for training on a CPU, in blocks of queries.

Torch's fused kernel multiplies in float32 there, bfloat16 too. Blocks of queries against the keys that they
may see, with bfloat16 products, take little more than half its time. The probabilities are kept for the way
back: two bytes times heads times half of tokens squared, which sequences of a few thousand tokens can afford.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 256


class _BlockedAttention(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        tokens, dim = q.shape[-2:]
        q = q * dim**-0.5
        keys = k.transpose(-1, -2)
        later = torch.full((_BLOCK, _BLOCK), float("-inf"), dtype=q.dtype).triu(1)
        mixed, kept = torch.empty_like(q), []
        for start in range(0, tokens, _BLOCK):
            end = min(start + _BLOCK, tokens)
            scores = q[:, start:end] @ keys[:, :, :end]
            scores[:, :, start:] += later[: end - start, : end - start]
            shares = torch.softmax(scores, -1)
            torch.bmm(shares, v[:, :end], out=mixed[:, start:end])
            kept.append(shares)
        ctx.save_for_backward(q, k, v, *kept)
        return mixed

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, *kept = ctx.saved_tensors
        tokens, dim = q.shape[-2:]
        to_q, to_k, to_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        values = v.transpose(-1, -2)
        for start, shares in zip(range(0, tokens, _BLOCK), kept, strict=True):
            end = min(start + _BLOCK, tokens)
            given = up[:, start:end]
            to_v[:, :end].baddbmm_(shares.transpose(-1, -2), given)
            to_shares = given @ values[:, :, :end]
            to_scores = torch._softmax_backward_data(to_shares, shares, -1, shares.dtype)
            torch.bmm(to_scores, k[:, :end], out=to_q[:, start:end])
            to_k[:, :end].baddbmm_(to_scores.transpose(-1, -2), q[:, start:end])
        return to_q * dim**-0.5, to_k, to_v


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of `[batch, heads, tokens, dim]`, every token over itself and those before it."""
    batch, heads, tokens, dim = q.shape
    flat = (t.reshape(batch * heads, tokens, dim) for t in (q, k, v))
    mixed: Tensor = _BlockedAttention.apply(*flat)
    return mixed.view(batch, heads, tokens, dim)
