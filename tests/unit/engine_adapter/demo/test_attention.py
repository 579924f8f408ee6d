"""Attention for training gives what torch's own gives, forwards and backwards."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from engine_adapter.demo.attention import causal_attention


@pytest.mark.parametrize("tokens", [1, 7, 256, 300, 520])
def test_values_and_gradients_are_those_of_torch(tokens: int) -> None:
    drawn = torch.randn(4, 2, 3, tokens, 16, generator=torch.Generator().manual_seed(tokens))
    up = drawn[3]
    results = []
    for attention in (
        causal_attention,
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    ):
        q, k, v = (t.clone().requires_grad_() for t in drawn[:3])
        mixed = attention(q, k, v)
        mixed.backward(up)
        results.append((mixed.detach(), q.grad, k.grad, v.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
