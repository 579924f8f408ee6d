"""The pages of a layer as kernels take them: flat words and the numbers to find tiles in them."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from cache.layout import KVLayout, KVView
from kernels.pages import BFLOAT16, FLOAT16, FLOAT32, Pages

Words = npt.NDArray[np.uint16]

_KINDS = MappingProxyType({"bfloat16": BFLOAT16, "float16": FLOAT16, "float32": FLOAT32})


def pages_of(view: KVView, layer: int) -> tuple[Words, Pages]:
    """Memory from the first word of the layer's first block to the last of its last, and where tiles lie in
    it. Nothing is copied. Raises ValueError for pages whose elements are not adjacent or that run backwards.
    """
    layout, rows = view.layout, view.pages[layer]
    if rows.flags.c_contiguous:
        return rows.reshape(-1).view(np.uint16), _pages(layout, view.blocks, layout.page_bytes)
    words = layout.bits_dtype.itemsize // 2
    step = rows.strides[0] if view.blocks > 1 else layout.page_bytes
    if rows.strides[1] != layout.bits_dtype.itemsize or step < layout.page_bytes or step % 2:
        raise ValueError(
            f"pages of {layout.page_bytes} bytes with strides {rows.strides} cannot be walked in order"
        )
    pages = _pages(layout, view.blocks, step)
    extent = (view.blocks - 1) * pages.stride + words * layout.page_elements
    return np.lib.stride_tricks.as_strided(rows[0].view(np.uint16), (extent,), (2,)), pages


@lru_cache(maxsize=64)
def _pages(layout: KVLayout, blocks: int, step: int) -> Pages:
    tile = layout.block_tokens * layout.head_dim
    transposed = layout.page_format == "cpu-vec"
    return Pages(
        blocks=blocks,
        stride=step // 2,
        kind=_KINDS[layout.dtype],
        heads=layout.kv_heads,
        tokens=layout.block_tokens,
        dim=layout.head_dim,
        head_stride=2 * tile if transposed else tile,
        value_base=tile if transposed else layout.kv_heads * tile,
        transposed=int(transposed),
    )
