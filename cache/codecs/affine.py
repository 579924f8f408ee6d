"""`int8`, `int4`, `int2`: uniform quantisation in KIVI's layout, without calibration.

Keys are quantised per channel over the tokens of a block, values per token over the channels of a head
(KIVI, 2402.02750): a few key channels are large in all tokens, values have no such channels. Each group has
its own low end and step. Bits of keys and of values may differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cache.codecs.codec import Bytes, CorruptPayload
from cache.codecs.pages import pages_of
from cache.codecs.sections import SectionCodec
from cache.layout import KVLayout, KVView
from kernels import dispatch
from kernels.cpu.uniform import tile_bytes


class Affine(SectionCodec):
    """Uniform quantisation with `k_bits` and `v_bits` (1 to 8) bits per number."""

    def __init__(self, name: str, k_bits: int, v_bits: int) -> None:
        if not (1 <= k_bits <= 8 and 1 <= v_bits <= 8):
            raise ValueError(f"k_bits and v_bits are 1 to 8, not {k_bits} and {v_bits}")
        self.name = name
        self._k_bits, self._v_bits = k_bits, v_bits

    def config(self) -> dict[str, Any]:
        return {"k_bits": self._k_bits, "v_bits": self._v_bits}

    def _size(self, layout: KVLayout, blocks: int) -> int:
        tile = layout.block_tokens * layout.head_dim
        keys = tile_bytes(layout.head_dim, tile, self._k_bits)
        values = tile_bytes(layout.block_tokens, tile, self._v_bits)
        return blocks * layout.kv_heads * (keys + values)

    def _encode_layer(self, view: KVView, layer: int, notes: bytes, out: Bytes) -> int | None:
        size = self._size(view.layout, view.blocks)
        if size >= out.nbytes:
            return None
        memory, pages = pages_of(view, layer)
        taken = dispatch.quantise(memory, pages, self._k_bits, self._v_bits, out[:size])
        return size if taken == size else None

    def _decode_layer(self, body: Bytes, notes: bytes, view: KVView, layer: int) -> None:
        size = self._size(view.layout, view.blocks)
        if body.nbytes != size:
            raise CorruptPayload(f"layer {layer} has {body.nbytes} bytes of {self.name}, not {size}")
        memory, pages = pages_of(view, layer)
        dispatch.dequantise(body, pages, self._k_bits, self._v_bits, memory)


def maker(name: str, bits: int) -> Callable[..., Affine]:
    """Builder of a registered width."""

    def make(k_bits: int = bits, v_bits: int = bits) -> Affine:
        return Affine(name, k_bits, v_bits)

    return make


int8, int4, int2 = maker("int8", 8), maker("int4", 4), maker("int2", 2)
