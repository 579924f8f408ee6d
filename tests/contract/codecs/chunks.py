"""Chunks of every layout and kind of content that a codec may meet."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cache.layout import Bits, KVLayout, KVView, view_of

LAYOUTS = {
    "cpu-vec": KVLayout(2, 3, 64, "bfloat16", 32, "cpu-vec"),
    "plain": KVLayout(3, 2, 32, "bfloat16", 16, "plain"),
    "float16": KVLayout(2, 2, 16, "float16", 8, "plain"),
    "float32": KVLayout(2, 1, 8, "float32", 4, "cpu-vec"),
    "odd": KVLayout(2, 3, 6, "bfloat16", 5, "cpu-vec"),
    "one": KVLayout(1, 1, 2, "bfloat16", 1, "plain"),
}

Content = Callable[[np.random.Generator, KVLayout, int], npt.NDArray[np.float32]]


def _normal(rng: np.random.Generator, layout: KVLayout, size: int) -> npt.NDArray[np.float32]:
    return rng.standard_normal(size, np.float32)


def _zero(rng: np.random.Generator, layout: KVLayout, size: int) -> npt.NDArray[np.float32]:
    return np.zeros(size, np.float32)


def _denormal(rng: np.random.Generator, layout: KVLayout, size: int) -> npt.NDArray[np.float32]:
    return (rng.standard_normal(size) * 1e-39).astype(np.float32)


def _spread(rng: np.random.Generator, layout: KVLayout, size: int) -> npt.NDArray[np.float32]:
    top = 4 if layout.dtype == "float16" else 38
    return (rng.choice([-1.0, 1.0], size) * 10.0 ** rng.uniform(-top, top, size)).astype(np.float32)


def _holes(rng: np.random.Generator, layout: KVLayout, size: int) -> npt.NDArray[np.float32]:
    made = rng.standard_normal(size, np.float32)
    made[rng.integers(0, size, 3)] = [np.nan, np.inf, -np.inf]
    return made


CONTENTS: dict[str, Content] = {
    "normal": _normal,
    "zero": _zero,
    "denormal": _denormal,
    "spread": _spread,
    "holes": _holes,
}


def bits_of(values: npt.NDArray[np.float32], layout: KVLayout) -> npt.NDArray[np.uint8]:
    """The bytes of numbers in a layout's dtype; bfloat16 by cutting."""
    if layout.dtype == "float32":
        return values.view(np.uint8)
    if layout.dtype == "float16":
        return values.astype(np.float16).view(np.uint8)
    return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)


def bits_in(view: KVView, layer: int) -> Bits:
    """Keys and values of a layer as one array [2, blocks, heads, tokens, dim]."""
    return np.stack([view.keys(layer), view.values(layer)])


def floats_of(view: KVView, layer: int) -> npt.NDArray[np.float32]:
    """`bits_in` as numbers."""
    bits = bits_in(view, layer)
    if view.layout.dtype == "float32":
        return bits.view(np.float32)
    if view.layout.dtype == "float16":
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << 16).view(np.float32)


def chunk(layout: KVLayout, content: str, blocks: int, seed: int = 0, position: int = 0) -> KVView:
    """A chunk with made-up content."""
    rng = np.random.default_rng(seed)
    size = blocks * layout.layers * layout.page_elements
    return view_of(layout, bits_of(CONTENTS[content](rng, layout, size), layout).copy(), blocks, position)


def empty(layout: KVLayout, blocks: int) -> KVView:
    """A chunk to decode into, full of a pattern that decoding must overwrite."""
    return view_of(layout, np.full(blocks * layout.block_bytes, 0xA5, np.uint8), blocks)
