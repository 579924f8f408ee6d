"""`dropped`: a share of the tokens of every layer and head, written by another codec, and which they are.

    marks    a bit per token, from the low bits up, whole bytes per head: [layers][heads][tokens / 8]
    payload  what the inner codec wrote for the kept tokens, packed densely into pages of the same layout

Each head of each layer keeps as many tokens as fill whole pages, those that a rule in `droppers` selects. It
sees one chunk, so what it may know of a context is what the chunk holds.

Decoding fills the places of dropped tokens with zeros, which is *not* the same as leaving them out: a zero
key still draws the weight exp(0), and no other key makes attention pass its token by. An engine must attend
to the places that `present` names and to no others. A paged engine cannot, hence `keeps_every_token` is
false and the store takes no such codec.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.codecs import registry
from cache.codecs.codec import Bytes, CorruptPayload
from cache.codecs.droppers import F32, RULES, WINDOW, Kept
from cache.layout import Bits, KVLayout, KVView, view_of

Marks = npt.NDArray[np.bool_]


class Dropped:
    """Drops tokens by a rule; `inner` writes the rest."""

    name = "dropped"
    lossless = False
    keeps_every_token = False

    def __init__(
        self,
        rule: str = "keydiff",
        keep: float = 0.5,
        inner: str = "lossless",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        if rule not in RULES:
            raise ValueError(f"there is no rule {rule!r}; there are {', '.join(RULES)}")
        if not 0 < keep <= 1:
            raise ValueError(f"keep is a share above 0 and at most 1, not {keep}")
        if inner == self.name or inner in registry.CALIBRATED:
            raise ValueError(
                f"{inner} cannot write kept tokens: it expects their positions to be consecutive"
            )
        self._rule, self._keep = rule, keep
        self._inner = registry.make(inner, config)

    def config(self) -> dict[str, Any]:
        inner = self._inner
        return {"rule": self._rule, "keep": self._keep, "inner": inner.name, "config": inner.config()}

    def bound(self, layout: KVLayout, blocks: int) -> int:
        return _marks_bytes(layout, blocks) + self._inner.bound(layout, self._kept_blocks(blocks))

    def encode(self, view: KVView, out: Bytes) -> int:
        layout = view.layout
        needed = self.bound(layout, view.blocks)
        if out.nbytes < needed:
            raise ValueError(f"the buffer has {out.nbytes} bytes; this chunk may take {needed}")
        dense = _pages(layout, self._kept_blocks(view.blocks))
        marks = np.zeros((layout.layers, layout.kv_heads, view.tokens), np.bool_)
        for layer in range(layout.layers):
            keys = _tokens(view.keys(layer))
            numbers = _float32(keys, layout)
            queries = numbers[:, -WINDOW:] if view.queries is None else view.queries[layer]
            with np.errstate(all="ignore"):
                kept = RULES[self._rule](numbers, queries, dense.tokens)
            np.put_along_axis(marks[layer], kept, values=True, axis=1)
            places = kept[:, :, None]
            _fill(dense.keys(layer), np.take_along_axis(keys, places, axis=1))
            _fill(dense.values(layer), np.take_along_axis(_tokens(view.values(layer)), places, axis=1))
        packed = np.packbits(marks, axis=-1, bitorder="little").reshape(-1)
        out[: packed.size] = packed
        return packed.size + self._inner.encode(dense, out[packed.size :])

    def decode(self, payload: Bytes, view: KVView) -> None:
        marks, dense = self._opened(payload, view)
        self._inner.decode(payload[_marks_bytes(view.layout, view.blocks) :], dense)
        for layer in range(view.layout.layers):
            _spread(marks[layer], dense, layer, view)

    def decode_layer(self, payload: Bytes, layer: int, view: KVView) -> None:
        marks, dense = self._opened(payload, view)
        self._inner.decode_layer(payload[_marks_bytes(view.layout, view.blocks) :], layer, dense)
        _spread(marks[layer], dense, layer, view)

    def present(self, payload: Bytes, layout: KVLayout, blocks: int) -> Marks:
        """Which tokens a payload holds, [layers, heads, tokens]; raises CorruptPayload."""
        size, tokens = _marks_bytes(layout, blocks), blocks * layout.block_tokens
        if payload.nbytes < size:
            raise CorruptPayload(f"{payload.nbytes} bytes are too few for {size} bytes of marks")
        packed = payload[:size].reshape(layout.layers, layout.kv_heads, -1)
        marks = np.unpackbits(packed, axis=-1, bitorder="little").view(np.bool_)
        number = self._kept_blocks(blocks) * layout.block_tokens
        if marks[..., tokens:].any() or (marks.sum(axis=-1) != number).any():
            raise CorruptPayload(f"not every head marks {number} of its {tokens} tokens")
        return marks[..., :tokens]

    def _kept_blocks(self, blocks: int) -> int:
        return max(1, math.ceil(self._keep * blocks - 1e-9))

    def _opened(self, payload: Bytes, view: KVView) -> tuple[Marks, KVView]:
        marks = self.present(payload, view.layout, view.blocks)
        return marks, _pages(view.layout, self._kept_blocks(view.blocks))


def _marks_bytes(layout: KVLayout, blocks: int) -> int:
    return layout.layers * layout.kv_heads * ((blocks * layout.block_tokens + 7) // 8)


def _pages(layout: KVLayout, blocks: int) -> KVView:
    return view_of(layout, np.empty(blocks * layout.block_bytes, np.uint8), blocks)


def _tokens(window: Bits) -> Bits:
    """A copy of [blocks, heads, block tokens, dim] as [heads, tokens, dim]."""
    blocks, heads, tokens, dim = window.shape
    return window.swapaxes(0, 1).reshape(heads, blocks * tokens, dim)


def _fill(window: Bits, tokens: Bits) -> None:
    """Inverse of `_tokens`, into the pages of a window."""
    blocks, heads, size, dim = window.shape
    window[...] = tokens.reshape(heads, blocks, size, dim).swapaxes(0, 1)


def _spread(marks: Marks, dense: KVView, layer: int, view: KVView) -> None:
    """Put a layer's kept tokens into their places, zeros everywhere else."""
    kept: Kept = np.nonzero(marks)[1].reshape(len(marks), -1, 1)
    for window, part in (
        (view.keys(layer), dense.keys(layer)),
        (view.values(layer), dense.values(layer)),
    ):
        whole = np.zeros((len(marks), view.tokens, view.layout.head_dim), view.layout.bits_dtype)
        np.put_along_axis(whole, kept, _tokens(part), axis=1)
        _fill(window, whole)


def _float32(bits: Bits, layout: KVLayout) -> F32:
    if layout.dtype == "bfloat16":
        return (bits.astype(np.uint32) << 16).view(np.float32)
    numbers: F32 = bits.view(layout.dtype).astype(np.float32)
    return numbers
