"""Pages of all kinds with adversarial numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels import reference
from kernels.pages import BFLOAT16, FLOAT16, FLOAT32, Pages

SHAPES = [(2, 3, 32, 64), (1, 1, 5, 6), (3, 2, 16, 8), (1, 1, 1, 2)]
"""(blocks, heads, tokens, dim)."""
KINDS = {"bfloat16": BFLOAT16, "float16": FLOAT16, "float32": FLOAT32}


def pages(kind: int, shape: tuple[int, int, int, int], transposed: bool, gap: int = 6) -> Pages:
    """Pages with `gap` words between blocks."""
    blocks, heads, tokens, dim = shape
    tile = tokens * dim
    words = 2 if kind == FLOAT32 else 1
    return Pages(
        blocks=blocks,
        stride=2 * heads * tile * words + gap,
        kind=kind,
        heads=heads,
        tokens=tokens,
        dim=dim,
        head_stride=2 * tile if transposed else tile,
        value_base=tile if transposed else heads * tile,
        transposed=int(transposed),
    )


def memory(made: Pages, numbers: str, seed: int = 0) -> NDArray[np.uint16]:
    """Words for pages, full of numbers of a kind."""
    rng = np.random.default_rng(seed)
    words = made.blocks * made.stride
    count = words // made.words
    if numbers == "normal":
        values = rng.standard_normal(count)
    elif numbers == "zero":
        values = np.zeros(count)
    elif numbers == "constant":
        values = np.full(count, -1.7)
    elif numbers == "tiny":
        values = rng.standard_normal(count) * 1e-38
    elif numbers == "high":
        values = rng.uniform(0.5, 1, count) * (65504 if made.kind == FLOAT16 else 1.6e38)
    else:
        top = 4 if made.kind == FLOAT16 else 30
        values = rng.choice([-1.0, 1.0], count) * 10.0 ** rng.uniform(-top, top, count)
    return reference.from_float32(values.astype(np.float32), made.kind)


NUMBERS = ("normal", "zero", "constant", "tiny", "high", "wide")
