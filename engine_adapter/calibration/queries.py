"""The queries that a prompt asks with, which codecs that drop tokens may look at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

from engine_adapter.demo.model import Llama

Queries = list[npt.NDArray[np.float32]]


@contextmanager
def watched(model: Llama) -> Iterator[Queries]:
    """Fills a list with the rotated queries of the prompt that is prefilled meanwhile, one array
    `[kv_heads, tokens, head_dim]` per layer: the mean of the heads that share a key head."""
    shape, found = model.shape, []
    heads, groups, dim = shape.num_attention_heads, shape.num_key_value_heads, shape.head_dim

    def keep(module: object, inputs: object, packed: torch.Tensor) -> None:
        tokens = packed.shape[1]
        asked = packed[0, :, : heads * dim].reshape(-1, heads, dim).transpose(0, 1)
        crossed = torch.cat([-asked[..., dim // 2 :], asked[..., : dim // 2]], dim=-1)
        turned = asked * model.cos[:tokens] + crossed * model.sin[:tokens]
        mean = turned.reshape(groups, heads // groups, -1, dim).mean(dim=1)
        found.append(np.ascontiguousarray(mean.numpy()))

    hooks = [layer.qkv.register_forward_hook(keep) for layer in model.layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
