"""What the bytes of a KV chunk mean: shape, dtype and page format, and views of keys and values in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import blake3
import cbor2
import numpy as np
import numpy.typing as npt

Dtype = Literal["bfloat16", "float16", "float32"]
PageFormat = Literal["plain", "cpu-vec"]
"""How one engine page (one layer, one block of tokens) is laid out; B tokens, H heads, D = head_dim:

* `plain`: K [H, B, D], then V [H, B, D].
* `cpu-vec`: per head, K transposed [D, B], then V [B, D]: vLLM's CPU attention with the `vec` ISAs.
"""

Bits = npt.NDArray[Any]
"""Bits of floating-point numbers (NumPy knows no bfloat16): uint16 for 16-bit types, uint32 for float32."""


@dataclass(frozen=True, slots=True)
class KVLayout:
    """Every property of an engine's KV cache that changes bytes: equal layouts may share raw pages."""

    layers: int
    kv_heads: int
    """Of this tensor-parallel shard."""
    head_dim: int
    dtype: Dtype
    block_tokens: int
    """Tokens per engine page."""
    page_format: PageFormat

    def __post_init__(self) -> None:
        if min(self.layers, self.kv_heads, self.head_dim, self.block_tokens) < 1:
            raise ValueError(f"a KV layout has positive sizes: {self}")

    @property
    def bits_dtype(self) -> np.dtype[Any]:
        """NumPy dtype that holds one element's bits."""
        return np.dtype(np.uint32 if self.dtype == "float32" else np.uint16)

    @property
    def page_elements(self) -> int:
        """Elements of one page: keys and values of one block in one layer."""
        return 2 * self.kv_heads * self.block_tokens * self.head_dim

    @property
    def page_bytes(self) -> int:
        return self.page_elements * self.bits_dtype.itemsize

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all layers."""
        return self.layers * self.page_bytes

    def fingerprint(self) -> bytes:
        """16 bytes that differ whenever any field differs."""
        return blake3.blake3(cbor2.dumps(["sluice.layout.1", asdict(self)], canonical=True)).digest(length=16)


@dataclass(frozen=True, slots=True)
class KVView:
    """The KV of whole blocks, in memory that somebody else owns (an arena slot, engine pages, an array).

    `pages[layer]` is [blocks, page_elements] of `layout.bits_dtype`; rows need not be adjacent. Nothing is
    copied: `keys` and `values` are strided windows, writable where the memory is.
    """

    layout: KVLayout
    pages: Sequence[Bits]
    position: int = 0
    """Place of the chunk's first token in its sequence. Codecs that undo RoPE need it when they encode and
    write it down; a wrong one costs bytes, never correctness, and decoding does not look at it."""
    queries: Sequence[npt.NDArray[np.float32]] | None = None
    """Rotated queries of the chunk's last tokens, [kv_heads, window, head_dim] per layer, where somebody has
    them: codecs that drop tokens may look at what is asked for. No engine connector is handed any."""

    @property
    def blocks(self) -> int:
        return int(self.pages[0].shape[0])

    @property
    def tokens(self) -> int:
        return self.blocks * self.layout.block_tokens

    def keys(self, layer: int) -> Bits:
        """Keys of a layer as [blocks, kv_heads, block_tokens, head_dim]; token t is [t // B, :, t % B]."""
        return _halves(self.layout, self.pages[layer])[0]

    def values(self, layer: int) -> Bits:
        """Values of a layer as [blocks, kv_heads, block_tokens, head_dim]."""
        return _halves(self.layout, self.pages[layer])[1]


def view_of(layout: KVLayout, memory: npt.NDArray[np.uint8], blocks: int, position: int = 0) -> KVView:
    """A view of contiguous bytes in the order [layers][blocks][page]: how arena slots and raw payloads hold
    KV.

    Layer by layer, so that a layer is one run of bytes to copy, and a slot is written to a tier as it lies.

    Raises ValueError if `memory` has not exactly `blocks * layout.block_bytes` bytes.
    """
    if memory.nbytes != blocks * layout.block_bytes:
        raise ValueError(f"{blocks} blocks take {blocks * layout.block_bytes} bytes, not {memory.nbytes}")
    pages = memory.view(layout.bits_dtype).reshape(layout.layers, blocks, layout.page_elements)
    return KVView(layout, list(pages), position)


def _halves(layout: KVLayout, pages: Bits) -> tuple[Bits, Bits]:
    blocks, heads, tokens, dim = pages.shape[0], layout.kv_heads, layout.block_tokens, layout.head_dim
    if layout.page_format == "plain":
        both = pages.reshape(blocks, 2, heads, tokens, dim)
        return both[:, 0], both[:, 1]
    halves = pages.reshape(blocks, heads, 2, tokens * dim)
    keys = halves[:, :, 0].reshape(blocks, heads, dim, tokens).swapaxes(2, 3)
    return keys, halves[:, :, 1].reshape(blocks, heads, tokens, dim)
