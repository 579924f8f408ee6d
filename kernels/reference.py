"""The slow truth: every kernel in NumPy and plain Python, as short as its definition allows.

Tests compare the CPU and GPU kernels with these on random and adversarial input. Names and arguments are the
kernels'; results are returned instead of written where that reads better.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.pages import BFLOAT16, FLOAT16, Pages

Array = npt.NDArray[Any]


def to_float32(words: Array, kind: int) -> Array:
    """Words of a tile as float32."""
    if kind == BFLOAT16:
        return (words.astype(np.uint32) << 16).view(np.float32)
    if kind == FLOAT16:
        return words.view(np.float16).astype(np.float32)
    return words.view(np.float32).copy()


def from_float32(numbers: Array, kind: int) -> Array:
    """float32 as words, rounded to nearest even; overflow goes to the largest finite number."""
    numbers = np.ascontiguousarray(numbers, np.float32)
    if kind == BFLOAT16:
        bits = numbers.view(np.uint32).astype(np.uint64)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return np.where((rounded & 0x7FFF) >= 0x7F80, rounded - 1, rounded).astype(np.uint16)
    if kind == FLOAT16:
        return np.clip(numbers, -65504, 65504).astype(np.float16).view(np.uint16)
    return numbers.view(np.uint16).copy()


def tiles(memory: Array, pages: Pages) -> Iterator[tuple[bool, int, Array]]:
    """(is values, head, words) of every tile, in the order in which kernels visit them."""
    for block in range(pages.blocks):
        for head in range(pages.heads):
            for values in (False, True):
                place = head * pages.head_stride + values * pages.value_base
                begin = block * pages.stride + pages.words * place
                yield values, head, memory[begin : begin + pages.words * pages.tile]


def _shape(pages: Pages, values: bool) -> tuple[int, int]:
    across = pages.transposed and not values
    return (pages.dim, pages.tokens) if across else (pages.tokens, pages.dim)


def _outward(numbers: Array, up: bool) -> Array:
    """float32 rounded to bfloat16 away from the middle, still as float32."""
    cut = (numbers.view(np.uint32) & 0xFFFF0000).view(np.float32)
    short = cut < numbers if up else cut > numbers
    return np.where(short, (cut.view(np.uint32) + 0x10000).view(np.float32), cut)


def quantise(memory: Array, pages: Pages, key_bits: int, value_bits: int) -> list[tuple[Array, Array, Array]]:
    """(lows, steps, codes) of every tile."""
    made = []
    for values, _, words in tiles(memory, pages):
        numbers = to_float32(words, pages.kind).reshape(_shape(pages, values))
        axis = 1 if values or pages.transposed else 0
        levels = (1 << (value_bits if values else key_bits)) - 1
        low = _outward(numbers.min(axis=axis), up=False)
        wide = numbers.max(axis=axis) - low
        step = np.maximum(wide / np.float32(levels) * np.float32(1 + 2.0**-20), np.float32(2.0**-126))
        step = np.where(wide > 0, _outward(step.astype(np.float32), up=True), np.float32(0)).astype(
            np.float32
        )
        inverse = np.divide(np.float32(1), step, out=np.zeros_like(step), where=step > 0)
        codes = (numbers - np.expand_dims(low, axis)) * np.expand_dims(inverse, axis) + np.float32(0.5)
        made.append((low, step, codes.astype(np.uint8)))
    return made


def pack(codes: Array, bits: int) -> Array:
    """Codes of some bits, from the low bits of each byte up."""
    flat = ((codes.ravel()[:, None] >> np.arange(bits)) & 1).astype(np.uint8).ravel()
    return np.packbits(flat, bitorder="little")


def to_fp8(numbers: Array) -> tuple[np.float32, Array]:
    """Scale and e4m3 codes of a tile: the nearest of all 127 magnitudes, ties to the even code."""
    scale = np.float32(max(np.abs(numbers).max() / np.float32(448), np.float32(2.0**-126)))
    wanted = np.minimum(np.abs(numbers * (np.float32(1) / scale)), 448).astype(np.float64)
    magnitudes = from_fp8(np.arange(127, dtype=np.uint8), np.float32(1)).astype(np.float64)
    above = np.clip(np.searchsorted(magnitudes, wanted), 1, 126)
    far, near = magnitudes[above] - wanted, wanted - magnitudes[above - 1]
    codes = np.where((far < near) | ((far == near) & (above % 2 == 0)), above, above - 1)
    return scale, (codes | (np.signbit(numbers) << 7)).astype(np.uint8)


def from_fp8(codes: Array, scale: np.float32) -> Array:
    """Numbers of e4m3 codes."""
    exponent, mantissa = (codes >> 3) & 15, codes & 7
    size = np.where(exponent == 0, mantissa * 2.0**-9, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    signed: Array = (np.where(codes & 0x80, -size, size) * scale).astype(np.float32)
    return signed


def split(words: Array, pages: Pages) -> tuple[Array, Array]:
    """(exponent byte - 127, the other bytes) of a tile."""
    if pages.words == 1:
        high, rest = words, np.empty((words.size, 0), np.uint8)
    else:
        pairs = words.reshape(-1, 2)
        high, rest = pairs[:, 1], np.stack([pairs[:, 0] & 255, pairs[:, 0] >> 8], axis=1).astype(np.uint8)
    exponents = ((high >> 7) & 255).astype(np.int16) - 127
    last = ((high & 127) | ((high >> 8) & 128)).astype(np.uint8)
    return exponents, np.concatenate([rest, last[:, None]], axis=1).ravel()


def read_tokens(memory: Array, pages: Pages, cosine: Array, sine: Array) -> Array:
    """[blocks * tokens, 2 * heads * dim] with keys turned back by the angles of their tokens."""
    rows = np.empty((pages.blocks, 2, pages.heads, pages.tokens, pages.dim), np.float32)
    for number, (values, head, words) in enumerate(tiles(memory, pages)):
        tile = to_float32(words, pages.kind).reshape(_shape(pages, values))
        rows[number // (2 * pages.heads), int(values), head] = (
            tile.T if pages.transposed and not values else tile
        )
    made = np.moveaxis(rows, 3, 1).reshape(pages.blocks * pages.tokens, 2, pages.heads, pages.dim)
    made[:, 0] = turn(made[:, 0], cosine[:, None], -sine[:, None])
    return made.reshape(len(made), -1)


def turn(keys: Array, cosine: Array, sine: Array) -> Array:
    """Half-rotated RoPE of [..., dim]."""
    half = cosine.shape[-1]
    first, second = keys[..., :half], keys[..., half : 2 * half]
    return np.concatenate(
        [first * cosine - second * sine, second * cosine + first * sine, keys[..., 2 * half :]], axis=-1
    )


def to_levels(coefficients: Array, rounding: float) -> Array:
    """sign(x) * floor(|x| + rounding)."""
    size = np.floor(np.abs(coefficients) + np.float32(rounding))
    return np.where(coefficients < 0, -size, size).astype(np.int16)


def from_levels(levels: Array, one: float, more: float) -> Array:
    """Numbers for levels."""
    size = np.abs(levels).astype(np.float32)
    moved = np.where(size == 0, size, np.where(size == 1, size + np.float32(one), size + np.float32(more)))
    return np.where(levels < 0, -moved, moved).astype(np.float32)


def encode(values: Array, freqs: Array, table_of_row: Array, lanes: int = 4) -> bytes:
    """The rANS stream of `kernels.cpu.rans`, one symbol at a time in whole numbers."""
    states, words, escapes = [1 << 16] * lanes, [], []
    for row in reversed(range(len(values))):
        freq = freqs[table_of_row[row]].astype(int)
        starts = np.cumsum(freq) - freq
        for t in reversed(range(values.shape[1])):
            symbol = int(values[row, t]) + 128
            if not 1 <= symbol <= 255 or freq[symbol] == 0:
                symbol = 0
                escapes.append(int(values[row, t]))
            x, f = states[t % lanes], int(freq[symbol])
            if x >= f << 20:
                words.append(x & 0xFFFF)
                x >>= 16
            states[t % lanes] = (x // f << 12) + x % f + int(starts[symbol])
    made = np.array(states, "<u4").tobytes() + np.array(words[::-1], "<u2").tobytes()
    return made + np.array(escapes[::-1], "<i2").tobytes()
