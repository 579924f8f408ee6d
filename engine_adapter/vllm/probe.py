"""Which page layout the running engine uses, found out by writing through its own kernel and reading back.

vLLM's pages say nothing about what is in them: on a CPU the last two dimensions of the cache tensor are not
"token, keys | values", and what is transposed depends on the instruction set the kernel was built for.
So before the KV layer touches a page it writes known keys and values with the function the model calls, in
several pieces as prefill and decode do, and looks which of the layouts that `KVView` knows gives them back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from cache.layout import Bits, KVLayout, PageFormat
from engine_adapter.vllm.pages import EnginePages, UnknownPages, layout_of

if TYPE_CHECKING:
    import torch

_BLOCKS = 2
_SEED = 20260601


def probe_layout(
    kv_caches: Mapping[str, torch.Tensor], attention_layers: Mapping[str, Any], pages: EnginePages
) -> KVLayout:
    """The layout of an idle engine's pages. Its last blocks are overwritten and put back.

    `attention_layers` are vLLM's attention modules by layer name. Raises UnknownPages unless every layer
    keeps every element of every key and value where exactly one known layout says.
    """
    tensor = kv_caches[pages.names[0]]
    candidates = [layout_of(pages, tensor, page_format) for page_format in get_args(PageFormat)]
    if pages.blocks < _BLOCKS:
        raise UnknownPages(f"it has {pages.blocks} blocks, too few to probe")
    blocks = list(range(pages.blocks - _BLOCKS, pages.blocks))
    before = [layer[blocks].copy() for layer in pages.layers]
    try:
        written = [
            _write(kv_caches[name], _attention(attention_layers, name), candidates[0], blocks, _SEED + number)
            for number, name in enumerate(pages.names)
        ]
        matching = [layout for layout in candidates if _reads_back(layout, pages, blocks, written)]
    finally:
        for layer, content in zip(pages.layers, before, strict=True):
            layer[blocks] = content
    if len(matching) != 1:
        instructions = getattr(_attention(attention_layers, pages.names[0]), "isa", "unknown")
        raise UnknownPages(
            f"its pages (shape {tuple(tensor.shape)}, {tensor.dtype}, instructions {instructions}) hold keys "
            f"and values in none of the known layouts ({', '.join(get_args(PageFormat))})"
            if not matching
            else f"its pages could be read in {len(matching)} ways"
        )
    return matching[0]


def _attention(attention_layers: Mapping[str, Any], name: str) -> Any:
    layer = attention_layers.get(name)
    if layer is None or not hasattr(getattr(layer, "impl", None), "do_kv_cache_update"):
        raise UnknownPages(f"there is no attention layer {name} whose kernel writes its KV cache")
    return layer


def _write(
    cache: torch.Tensor, attention: Any, layout: KVLayout, blocks: list[int], seed: int
) -> tuple[Bits, Bits]:
    """Write random keys and values to all tokens of `blocks`; their bits as [tokens, heads, head_dim]."""
    import torch

    tokens = len(blocks) * layout.block_tokens
    shape = (tokens, layout.kv_heads, layout.head_dim)
    generator = torch.Generator().manual_seed(seed)
    keys, values = (torch.randn(shape, generator=generator).to(cache.dtype) for _ in range(2))
    slots = torch.tensor(
        [block * layout.block_tokens + token for block in blocks for token in range(layout.block_tokens)]
    )
    try:
        for piece in _pieces(tokens):
            attention.impl.do_kv_cache_update(attention, keys[piece], values[piece], cache, slots[piece])
    except Exception as error:  # of whatever kind: an engine has to start all the same
        raise UnknownPages(f"its kernel does not write as it is asked to ({error!r})") from error
    return _bits(keys, layout), _bits(values, layout)


def _pieces(tokens: int) -> Iterator[slice]:
    """A long prefill that ends inside a block, one that starts there, and single tokens."""
    long = tokens * 5 // 8
    yield slice(0, long)
    yield slice(long, tokens - 3)
    for token in range(tokens - 3, tokens):
        yield slice(token, token + 1)


def _bits(tensor: torch.Tensor, layout: KVLayout) -> Bits:
    import torch

    integers = torch.int32 if layout.bits_dtype.itemsize == 4 else torch.int16
    array: Bits = tensor.contiguous().view(integers).numpy().view(layout.bits_dtype)
    return array


def _reads_back(
    layout: KVLayout, pages: EnginePages, blocks: list[int], written: list[tuple[Bits, Bits]]
) -> bool:
    view = pages.view(layout, blocks)
    return all(
        np.array_equal(_by_token(view.keys(number)), keys)
        and np.array_equal(_by_token(view.values(number)), values)
        for number, (keys, values) in enumerate(written)
    )


def _by_token(blocks: Bits) -> Bits:
    """[blocks, heads, tokens, dim] -> [all tokens, heads, dim]."""
    return blocks.swapaxes(1, 2).reshape(-1, blocks.shape[1], blocks.shape[3])
