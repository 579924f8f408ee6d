"""What all codecs but `raw` share: a payload of one section per layer, each coded or kept as it is.

    sizes    uint32 [layers], little-endian
    notes    `note_bytes` bytes of the codec's own, the same for all layers
    sections, one after the other: a mode byte (0 kept, 1 coded), then page bytes or what the codec wrote

A layer is kept as it is when the codec declines it (it holds NaN or infinity, say) or would not make it
smaller, so no input is refused and none grows by more than five bytes per layer.
"""

from __future__ import annotations

import struct
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from cache.codecs.codec import Bytes, CorruptPayload
from cache.layout import KVLayout, KVView

KEPT, CODED = 0, 1


class SectionCodec:
    """Base of codecs that code layers one by one. Subclasses say how in `_encode_layer`, `_decode_layer`."""

    name: str
    lossless: bool = False
    keeps_every_token: bool = True
    note_bytes: int = 0

    def config(self) -> dict[str, Any]:
        """What `registry.make` needs to build this codec again."""
        return {}

    def bound(self, layout: KVLayout, blocks: int) -> int:
        """Raw size, and what frames the sections."""
        self._check(layout)
        return blocks * layout.block_bytes + 5 * layout.layers + self.note_bytes

    def encode(self, view: KVView, out: Bytes) -> int:
        """Write the chunk to `out`; returns the bytes taken."""
        layout = view.layout
        if out.nbytes < self.bound(layout, view.blocks):
            needed = self.bound(layout, view.blocks)
            raise ValueError(f"the buffer has {out.nbytes} bytes; this chunk may take {needed}")
        notes = self._notes(view)
        at = 4 * layout.layers
        out[at : at + self.note_bytes] = np.frombuffer(notes, np.uint8)
        at += self.note_bytes
        sizes = np.empty(layout.layers, "<u4")
        raw = view.blocks * layout.page_bytes
        for layer in range(layout.layers):
            body = out[at + 1 : at + 1 + raw]
            taken = self._encode_layer(view, layer, notes, body)
            out[at] = CODED if taken is not None else KEPT
            if taken is None:
                taken = raw
                np.copyto(_page_rows(body, view), view.pages[layer])
            sizes[layer] = taken + 1
            at += taken + 1
        out[: 4 * layout.layers] = sizes.view(np.uint8)
        return at

    def decode(self, payload: Bytes, view: KVView) -> None:
        """Fill the view; raises CorruptPayload."""
        notes, sections = self._sections(payload, view.layout)
        for layer, section in enumerate(sections):
            self._decode_section(section, notes, view, layer)

    def decode_layer(self, payload: Bytes, layer: int, view: KVView) -> None:
        """Fill one layer of the view; raises CorruptPayload."""
        notes, sections = self._sections(payload, view.layout)
        self._decode_section(sections[layer], notes, view, layer)

    def _sections(self, payload: Bytes, layout: KVLayout) -> tuple[bytes, list[Bytes]]:
        """The notes and every layer's section, none of which is empty."""
        layers = layout.layers
        head = 4 * layers + self.note_bytes
        if payload.nbytes < head:
            raise CorruptPayload(f"{payload.nbytes} bytes are too few for the sizes of {layers} layers")
        self._check(layout)
        start = payload[:head].tobytes()
        sizes = struct.unpack_from(f"<{layers}I", start)
        ends = list(accumulate(sizes, initial=head))
        if ends[-1] != payload.nbytes:
            raise CorruptPayload(
                f"sections of {sum(sizes)} bytes and {head} before them, not {payload.nbytes}"
            )
        if 0 in sizes:
            raise CorruptPayload(f"the section of layer {sizes.index(0)} is empty")
        return start[4 * layers :], [payload[begin:end] for begin, end in pairwise(ends)]

    def _decode_section(self, section: Bytes, notes: bytes, view: KVView, layer: int) -> None:
        body, mode = section[1:], section[0]
        if mode == CODED:
            self._decode_layer(body, notes, view, layer)
        elif mode == KEPT and body.nbytes == view.blocks * view.layout.page_bytes:
            np.copyto(view.pages[layer], _page_rows(body, view))
        else:
            raise CorruptPayload(f"layer {layer} has mode {mode} and {body.nbytes} bytes")

    def _check(self, layout: KVLayout) -> None:
        """Raise ValueError for a layout that this codec cannot take."""

    def _notes(self, view: KVView) -> bytes:
        """`note_bytes` bytes that decoding any layer needs."""
        return b""

    def _encode_layer(self, view: KVView, layer: int, notes: bytes, out: Bytes) -> int | None:
        """Write a layer to `out`, which has its raw size; returns the bytes, or None to keep it as it is."""
        raise NotImplementedError

    def _decode_layer(self, body: Bytes, notes: bytes, view: KVView, layer: int) -> None:
        """Fill a layer from what `_encode_layer` wrote, or raise CorruptPayload."""
        raise NotImplementedError


def _page_rows(memory: Bytes, view: KVView) -> Any:
    """Bytes as page rows, at whatever address they begin."""
    return np.ndarray((view.blocks, view.layout.page_elements), view.layout.bits_dtype, buffer=memory.data)
