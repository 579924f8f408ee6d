"""`fp8`: float8 e4m3 with one scale per head and block."""

from __future__ import annotations

from cache.codecs.codec import Bytes, CorruptPayload
from cache.codecs.pages import pages_of
from cache.codecs.sections import SectionCodec
from cache.layout import KVLayout, KVView
from kernels import dispatch
from kernels.cpu.fp8 import HEADER_BYTES


class Float8(SectionCodec):
    """Half of bfloat16, a relative error of at most 1/16 for all but the smallest numbers of a tile."""

    name = "fp8"

    def _size(self, layout: KVLayout, blocks: int) -> int:
        return blocks * 2 * layout.kv_heads * (HEADER_BYTES + layout.block_tokens * layout.head_dim)

    def _encode_layer(self, view: KVView, layer: int, notes: bytes, out: Bytes) -> int | None:
        size = self._size(view.layout, view.blocks)
        if size >= out.nbytes:
            return None
        memory, pages = pages_of(view, layer)
        return size if dispatch.to_fp8(memory, pages, out[:size]) == size else None

    def _decode_layer(self, body: Bytes, notes: bytes, view: KVView, layer: int) -> None:
        size = self._size(view.layout, view.blocks)
        if body.nbytes != size:
            raise CorruptPayload(f"layer {layer} has {body.nbytes} bytes of float8, not {size}")
        memory, pages = pages_of(view, layer)
        if dispatch.from_fp8(body, pages, memory) != size:
            raise CorruptPayload(f"layer {layer} has a scale that is no scale")
