"""Initial weights that already hold a recall circuit.

From random weights a model of this size spends millions of tokens on a plateau before "after *key* comes
*value*" can be read from its context. The circuit that ends the plateau is known (Olsson et al., 2022,
"In-context Learning and Induction Heads"), so it is planted: heads of the first layer attend a fixed number
of tokens back, and a head of the next layer looks for the place whose predecessor equals the current token
and copies what stands there. Training is free to change all of it.

Construction. Every embedding shares one direction `m`. Queries and keys that read only `m` have the same
content everywhere, so their rotary score depends on distance alone; turning the key by `d` positions puts
its peak `d` tokens back. Matching of content uses the slow rotary pairs only, which keep their phase over
thousands of tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine_adapter.demo.model import Layer, Llama

_EMBEDDING_STD = 0.1
_SHARED = 0.6
"""Size of the shared direction relative to the individual part of an embedding."""
_FAST_PAIRS = 10
_FIRST_SLOW_PAIR = 14
_LOOK_BACK = 1.3
_MATCH = 2.5
_WRITE, _COPY = 0.15, 1.0
_FINAL_GAIN = 0.3
_BACKGROUND = 0.2
"""Scale of the random weights that remain."""


def plant_recall(model: Llama, seed: int) -> None:
    """Overwrite embeddings and the first heads of an initialised model; deterministic in `seed`.

    Head `h` of layer 0 looks `h + 1` tokens back; head 0 of layers 1 and 2 does the matching and the copying.
    """
    shape = model.shape
    if shape.num_key_value_heads != shape.num_attention_heads:
        raise ValueError(
            "planting needs as many key-value heads as query heads; set num_key_value_heads accordingly"
        )
    if shape.num_hidden_layers < 3:
        raise ValueError(f"planting needs three layers, the model has {shape.num_hidden_layers}")
    generator = torch.Generator().manual_seed(seed + 17)
    hidden = shape.hidden_size
    width = min(shape.head_dim, (hidden - 1) // 2)
    with torch.no_grad():
        shared = torch.randn(hidden, generator=generator)
        table = model.embed.weight
        table.copy_(torch.randn(table.shape, generator=generator))
        table.add_(_SHARED * shared).mul_(_EMBEDDING_STD)
        model.norm.weight.fill_(_FINAL_GAIN)
        for layer in model.layers:
            layer.o.weight.mul_(_BACKGROUND)
            layer.down.weight.mul_(_BACKGROUND)
        direction = shared / shared.norm()
        read, write, copied = _bases(direction, width, generator)
        first = model.layers[0]
        for head in range(shape.num_attention_heads):
            _look_back(first, head, head + 1, direction)
            source, target = (read, write) if head == 0 else _bases(direction, width, generator)[:2]
            _rows(first, 2, head)[:width] = source.T
            _columns(first, head)[:, :width] = _WRITE * target
        for layer in list(model.layers)[1:3]:
            _match(layer, read, write)
            _rows(layer, 2, 0)[:width] = copied.T
            _columns(layer, 0)[:, :width] = _COPY * copied


def _bases(direction: Tensor, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Orthonormal `[hidden, width]` bases to read from, to write to and to copy through.

    All avoid `direction`; reading and copying avoid what is written.
    """
    hidden = direction.shape[0]
    noise = torch.randn(hidden, 2 * width, generator=generator)
    frame = torch.linalg.qr(torch.cat([direction[:, None], noise], dim=1))[0]
    write, read = frame[:, 1 : 1 + width], frame[:, 1 + width : 1 + 2 * width]
    known = torch.cat([direction[:, None], write, torch.randn(hidden, width, generator=generator)], dim=1)
    return read, write, torch.linalg.qr(known)[0][:, 1 + width :]


def _rows(layer: Layer, part: int, head: int) -> Tensor:
    """Rows `[dim, hidden]` of one head in the query (0), key (1) or value (2) part of the projection."""
    shape = layer.shape
    start = (part * shape.num_attention_heads + head) * shape.head_dim
    return layer.qkv.weight[start : start + shape.head_dim]


def _columns(layer: Layer, head: int) -> Tensor:
    """Columns of the output projection that one head feeds, `[hidden, dim]`."""
    dim = layer.shape.head_dim
    return layer.o.weight[:, head * dim : (head + 1) * dim]


def _look_back(layer: Layer, head: int, distance: int, direction: Tensor) -> None:
    half = layer.shape.head_dim // 2
    speeds = layer.shape.rope_theta ** (-torch.arange(half, dtype=torch.float32) / half)
    query, key = torch.zeros(2 * half), torch.zeros(2 * half)
    query[:_FAST_PAIRS] = _LOOK_BACK
    key[:_FAST_PAIRS] = _LOOK_BACK * torch.cos(distance * speeds[:_FAST_PAIRS])
    key[half : half + _FAST_PAIRS] = _LOOK_BACK * torch.sin(distance * speeds[:_FAST_PAIRS])
    for part, vector in ((0, query), (1, key)):
        rows = _rows(layer, part, head)
        rows.mul_(0.1 * _BACKGROUND).add_(torch.outer(vector, direction))


def _match(layer: Layer, read: Tensor, write: Tensor) -> None:
    half = layer.shape.head_dim // 2
    slow = torch.arange(_FIRST_SLOW_PAIR, half)
    places = torch.cat([slow, slow + half])[: read.shape[1]]
    for part, basis in ((0, read), (1, write)):
        rows = _rows(layer, part, 0)
        rows.mul_(0.1 * _BACKGROUND)
        rows[places] = _MATCH * basis[:, : len(places)].T
