"""The KV of a prompt between three shapes: torch tensors, rows for statistics, pages for codecs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cache.layout import KVLayout, KVView, PageFormat, view_of
from engine_adapter.demo.generate import prefill
from engine_adapter.demo.model import LayerCache, Llama

BLOCK_TOKENS = 32


def layout_of(model: Llama, page_format: PageFormat = "cpu-vec") -> KVLayout:
    """The layout in which vLLM's CPU engine would hold this model's KV."""
    shape = model.shape
    return KVLayout(
        shape.num_hidden_layers,
        shape.num_key_value_heads,
        shape.head_dim,
        "bfloat16",
        BLOCK_TOKENS,
        page_format,
    )


def inverse_frequencies(model: Llama) -> npt.NDArray[np.float64]:
    """Angle per position of each pair of rotated channels."""
    half = model.shape.head_dim // 2
    angles: npt.NDArray[np.float64] = float(model.shape.rope_theta) ** (-np.arange(half) / half)
    return angles


def exact_kv(model: Llama, tokens: Sequence[int]) -> list[LayerCache]:
    """Full prefill, rounded to the bfloat16 in which an engine keeps KV."""
    return [(k.bfloat16().float(), v.bfloat16().float()) for k, v in prefill(model, tokens)]


def rows_of(keys: Tensor, values: Tensor, turns: tuple[Tensor, Tensor] | None) -> npt.NDArray[np.float32]:
    """`[..., heads, tokens, dim]` keys and values as rows `[..., tokens, 2 * heads * dim]`.

    `turns` are the cosines and sines `[tokens, dim]` of the positions, to undo RoPE; it is linear, so
    gradients of rows are made the same way.
    """
    if turns is not None:
        cosine, sine = turns
        half = keys.shape[-1] // 2
        keys = keys * cosine - torch.cat([-keys[..., half:], keys[..., :half]], dim=-1) * sine
    both = [x.movedim(-3, -2).flatten(-2) for x in (keys, values)]
    rows: npt.NDArray[np.float32] = torch.cat(both, dim=-1).contiguous().numpy()
    return rows


def to_view(layout: KVLayout, kv: Sequence[LayerCache], first: int, blocks: int) -> KVView:
    """`blocks` blocks from token `first` on, in fresh memory."""
    view = view_of(layout, np.zeros(blocks * layout.block_bytes, np.uint8), blocks, first)
    for layer, (keys, values) in enumerate(kv):
        for window, tensor in ((view.keys(layer), keys), (view.values(layer), values)):
            part = tensor[0, :, first : first + view.tokens].bfloat16().view(torch.int16).numpy()
            paged = part.reshape(layout.kv_heads, blocks, layout.block_tokens, layout.head_dim)
            np.copyto(window, paged.swapaxes(0, 1).view(np.uint16))
    return view


def from_view(view: KVView, kv: Sequence[LayerCache]) -> None:
    """Overwrite the tokens of a view in tensors."""
    for layer, (keys, values) in enumerate(kv):
        for window, tensor in ((view.keys(layer), keys), (view.values(layer), values)):
            flat = np.ascontiguousarray(window.swapaxes(0, 1)).reshape(view.layout.kv_heads, view.tokens, -1)
            numbers = torch.from_numpy(flat.view(np.int16)).view(torch.bfloat16).float()
            tensor[0, :, view.position : view.position + view.tokens] = numbers
