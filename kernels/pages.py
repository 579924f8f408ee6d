"""How kernels see engine pages: one flat run of 16-bit words and the numbers to find a tile in it."""

from __future__ import annotations

from typing import NamedTuple

BFLOAT16, FLOAT16, FLOAT32 = 0, 1, 2


class Pages(NamedTuple):
    """Where the tiles of one layer lie. A *tile* is the keys, or the values, of one head in one block.

    Block b begins at word `b * stride`; in it the keys of head h begin at element `h * head_stride`, the
    values at `value_base + h * head_stride`. Tiles are [tokens, dim]; those of keys are [dim, tokens] if
    `transposed`. float32 takes two words (little-endian), the 16-bit types one.
    """

    blocks: int
    stride: int
    kind: int
    heads: int
    tokens: int
    dim: int
    head_stride: int
    value_base: int
    transposed: int

    @property
    def words(self) -> int:
        """Words per element."""
        return 2 if self.kind == FLOAT32 else 1

    @property
    def tile(self) -> int:
        """Elements of a tile."""
        return self.tokens * self.dim
