"""Codec payloads: whatever bytes a frame brings, decoding fills the view or says that they are corrupt."""

from __future__ import annotations

import numpy as np

from cache.codecs import registry
from cache.codecs.codec import CorruptPayload
from cache.layout import KVLayout, view_of
from tests.contract.codecs import made_up

LAYOUT, BLOCKS = KVLayout(2, 1, 8, "bfloat16", 8, "cpu-vec"), 2
CODECS = [
    made_up.codec(name, LAYOUT) if name in registry.CALIBRATED else registry.make(name)
    for name in registry.names()
]
GUARD = 256


def one(data: bytes) -> None:
    """The first byte names a codec, the rest is its payload."""
    if not data:
        return
    codec, payload = CODECS[data[0] % len(CODECS)], np.frombuffer(data[1:], np.uint8)
    memory = np.full(2 * GUARD + BLOCKS * LAYOUT.block_bytes, 0xA5, np.uint8)
    view = view_of(LAYOUT, memory[GUARD:-GUARD], BLOCKS)
    try:
        codec.decode(payload, view)
    except CorruptPayload:
        return
    finally:
        assert (memory[:GUARD] == 0xA5).all()
        assert (memory[-GUARD:] == 0xA5).all()
    for layer in range(LAYOUT.layers):
        alone = view_of(LAYOUT, np.zeros(BLOCKS * LAYOUT.block_bytes, np.uint8), BLOCKS)
        codec.decode_layer(payload, layer, alone)
        assert np.array_equal(alone.pages[layer], view.pages[layer])
