"""`raw`: the pages as the engine holds them, layer after layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from cache.codecs.codec import Bytes, CorruptPayload
from cache.layout import KVLayout, KVView


class Raw:
    """Copies. The payload is [layers][blocks][page], so that one layer is one run of bytes."""

    name = "raw"
    lossless = True
    keeps_every_token = True

    def config(self) -> dict[str, Any]:
        return {}

    def bound(self, layout: KVLayout, blocks: int) -> int:
        return blocks * layout.block_bytes

    def encode(self, view: KVView, out: Bytes) -> int:
        taken = self.bound(view.layout, view.blocks)
        if out.nbytes < taken:
            raise ValueError(f"the buffer has {out.nbytes} bytes; this chunk may take {taken}")
        for layer in range(view.layout.layers):
            np.copyto(_layer(out[:taken], layer, view), view.pages[layer])
        return taken

    def decode(self, payload: Bytes, view: KVView) -> None:
        for layer in range(view.layout.layers):
            self.decode_layer(payload, layer, view)

    def decode_layer(self, payload: Bytes, layer: int, view: KVView) -> None:
        wanted = self.bound(view.layout, view.blocks)
        if payload.nbytes != wanted:
            raise CorruptPayload(
                f"{view.blocks} raw blocks take {wanted} bytes; the payload has {payload.nbytes}"
            )
        np.copyto(view.pages[layer], _layer(payload, layer, view))


def _layer(memory: Bytes, layer: int, view: KVView) -> Any:
    size = view.blocks * view.layout.page_bytes
    run = memory[layer * size : (layer + 1) * size]
    # A payload may begin at any address inside a frame; NumPy copies unaligned memory correctly.
    return np.ndarray((view.blocks, view.layout.page_elements), view.layout.bits_dtype, buffer=run.data)
