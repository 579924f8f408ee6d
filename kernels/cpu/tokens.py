"""Pages as one row per token, keys without RoPE, and back.

A row is [keys of head 0, keys of head 1, ..., values of head 0, ...]: 2 * heads * dim float32 numbers. RoPE
is the half-rotated kind of Llama (the first half of the rotated channels pairs with the second); it is undone
by turning back by the angle of each token's position.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import numba
import numpy as np

from kernels.cpu.floats import PAGES, finite, load, store
from kernels.cpu.jit import IN_U16, OUT_U16, array, kernel, part
from kernels.pages import FLOAT32


@part
def _turn(row, cosine, sine, direction):
    half = cosine.size
    first, second = row[:half], row[half : 2 * half]
    for i in range(half):
        x, y = first[i], second[i]
        first[i] = x * cosine[i] - y * sine[i] * direction
        second[i] = y * cosine[i] + x * sine[i] * direction


@kernel(
    IN_U16,
    PAGES,
    array(numba.float32, 2, readonly=True),
    array(numba.float32, 2, readonly=True),
    array(numba.float32, 2),
)
def read_tokens(memory, pages, cosine, sine, out):
    """Fill `out` [blocks * tokens, 2 * heads * dim]; returns 0, or -1 if a number is not finite.

    `cosine` and `sine` are [blocks * tokens, rotated channels / 2]; the second may be 0 for no RoPE.
    """
    tokens, dim, size = pages.tokens, pages.dim, pages.tokens * pages.dim
    words = 2 if pages.kind == FLOAT32 else 1
    bits = np.empty(size, np.uint32)
    tile = bits.view(np.float32)
    for block in range(pages.blocks):
        for half in range(2 * pages.heads):
            values = half % 2
            place = (half // 2) * pages.head_stride + values * pages.value_base
            begin = block * pages.stride + words * place
            load(memory[begin : begin + words * size], pages.kind, tile, bits)
            if not finite(bits):
                return -1
            column = (half // 2 + values * pages.heads) * dim
            window = out[block * tokens : (block + 1) * tokens]
            if pages.transposed == 1 and values == 0:
                across = tile.reshape(dim, tokens)
                for t in range(tokens):
                    row = window[t, column : column + dim]
                    for d in range(dim):
                        row[d] = across[d, t]
            else:
                along = tile.reshape(tokens, dim)
                for t in range(tokens):
                    row = window[t, column : column + dim]
                    for d in range(dim):
                        row[d] = along[t, d]
            if values == 0:
                for t in range(tokens):
                    at = block * tokens + t
                    _turn(window[t, column : column + dim], cosine[at], sine[at], np.float32(-1))
    return 0


@kernel(
    array(numba.float32, 2),
    PAGES,
    array(numba.float32, 2, readonly=True),
    array(numba.float32, 2, readonly=True),
    OUT_U16,
)
def write_tokens(rows, pages, cosine, sine, memory):
    """Inverse of `read_tokens`; returns 0, or -1 if a number is not finite. Turns the keys in `rows`."""
    tokens, dim, size = pages.tokens, pages.dim, pages.tokens * pages.dim
    words = 2 if pages.kind == FLOAT32 else 1
    bits = np.empty(size, np.uint32)
    tile = bits.view(np.float32)
    for block in range(pages.blocks):
        for half in range(2 * pages.heads):
            values = half % 2
            column = (half // 2 + values * pages.heads) * dim
            window = rows[block * tokens : (block + 1) * tokens]
            if values == 0:
                for t in range(tokens):
                    at = block * tokens + t
                    _turn(window[t, column : column + dim], cosine[at], sine[at], np.float32(1))
            if pages.transposed == 1 and values == 0:
                across = tile.reshape(dim, tokens)
                for t in range(tokens):
                    row = window[t, column : column + dim]
                    for d in range(dim):
                        across[d, t] = row[d]
            else:
                along = tile.reshape(tokens, dim)
                for t in range(tokens):
                    row = window[t, column : column + dim]
                    for d in range(dim):
                        along[t, d] = row[d]
            if not finite(bits):
                return -1
            place = (half // 2) * pages.head_stride + values * pages.value_base
            begin = block * pages.stride + words * place
            store(tile, bits, pages.kind, memory[begin : begin + words * size])
    return 0
