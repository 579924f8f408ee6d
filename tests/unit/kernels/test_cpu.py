"""CPU kernels against the reference."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from kernels import dispatch, reference
from kernels.cpu.uniform import tile_bytes
from kernels.pages import BFLOAT16, Pages
from tests.unit.kernels.made_pages import KINDS, NUMBERS, SHAPES, memory, pages

CASES = [
    pytest.param(pages(kind, shape, transposed), numbers, id=f"{name}-{shape}-{transposed}-{numbers}")
    for (name, kind), shape, transposed, numbers in product(KINDS.items(), SHAPES, (False, True), NUMBERS)
    if shape == SHAPES[0] or numbers == "wide"
]


@pytest.mark.parametrize(("made", "numbers"), CASES)
@pytest.mark.parametrize("bits", [(8, 8), (4, 2), (3, 5)])
def test_quantise(made: Pages, numbers: str, bits: tuple[int, int]) -> None:
    words = memory(made, numbers)
    sizes = [
        tile_bytes(made.dim, made.tile, bits[0]),
        tile_bytes(made.tokens, made.tile, bits[1]),
    ]
    out = np.zeros(made.blocks * made.heads * sum(sizes), np.uint8)
    assert dispatch.quantise(words, made, *bits, out) == out.size
    back = np.full_like(words, 0xBEEF)
    assert dispatch.dequantise(out, made, *bits, back) == out.size
    at = 0
    restored = reference.tiles(back, made)
    for number, (low, step, codes) in enumerate(reference.quantise(words, made, *bits)):
        values = number % 2
        groups = 2 * low.size
        # As numbers: the two zeros are one low end.
        assert np.array_equal(reference.to_float32(out[at : at + groups].view(np.uint16), BFLOAT16), low)
        steps = out[at + groups : at + 2 * groups].view(np.uint16)
        assert np.array_equal(reference.to_float32(steps, BFLOAT16), step)
        packed = out[at + 2 * groups : at + sizes[values]]
        assert np.array_equal(packed, reference.pack(codes, bits[values]))
        axis = 1 if values or made.transposed else 0
        numbers_ = np.expand_dims(low, axis) + np.expand_dims(step, axis) * codes
        expected = reference.from_float32(numbers_.astype(np.float32), made.kind)
        decoded = reference.to_float32(next(restored)[2], made.kind)
        assert np.array_equal(decoded, reference.to_float32(expected.ravel(), made.kind))
        at += sizes[values]
    _gaps_untouched(made, back)


@pytest.mark.parametrize(("made", "numbers"), CASES)
def test_fp8(made: Pages, numbers: str) -> None:
    words = memory(made, numbers)
    out = np.zeros(made.blocks * made.heads * 2 * (4 + made.tile), np.uint8)
    assert dispatch.to_fp8(words, made, out) == out.size
    back = np.full_like(words, 0xBEEF)
    assert dispatch.from_fp8(out, made, back) == out.size
    restored = reference.tiles(back, made)
    for tile, (_, _, source) in zip(
        out.reshape(-1, 4 + made.tile), reference.tiles(words, made), strict=True
    ):
        scale, codes = reference.to_fp8(reference.to_float32(source, made.kind))
        assert tile[:4].view(np.float32)[0] == scale
        assert np.array_equal(tile[4:], codes)
        expected = reference.from_float32(reference.from_fp8(codes, scale), made.kind)
        assert np.array_equal(next(restored)[2], expected)
    _gaps_untouched(made, back)


@pytest.mark.parametrize(("made", "numbers"), CASES)
def test_split(made: Pages, numbers: str) -> None:
    words = memory(made, numbers)
    rows, width = 2 * made.blocks * made.heads, 2 * made.words - 1
    exponents, counts = np.empty((rows, made.tile), np.int16), np.empty((2, 256), np.int64)
    rest = np.empty(rows * made.tile * width, np.uint8)
    assert dispatch.split(words, made, exponents, rest, counts) == 0
    for row, (_, _, source) in enumerate(reference.tiles(words, made)):
        high, low = reference.split(source, made)
        assert np.array_equal(exponents[row], high)
        assert np.array_equal(rest.reshape(rows, -1)[row], low)
    for half in range(2):
        assert np.array_equal(counts[half], np.bincount(exponents[half::2].ravel() + 127, minlength=256))
    back = np.full_like(words, 0xBEEF)
    assert dispatch.join(exponents, rest, made, back) == 0
    for (_, _, one), (_, _, two) in zip(
        reference.tiles(words, made), reference.tiles(back, made), strict=True
    ):
        assert np.array_equal(one, two)
    _gaps_untouched(made, back)
    exponents[-1, -1] = 300
    assert dispatch.join(exponents, rest, made, back) == -1


@pytest.mark.parametrize(("made", "numbers"), CASES)
@pytest.mark.parametrize("rotated", [0, 0.5, 1.0])
def test_tokens(made: Pages, numbers: str, rotated: float) -> None:
    words = memory(made, numbers)
    tokens = made.blocks * made.tokens
    angles = np.outer(np.arange(7, 7 + tokens), 0.7 ** np.arange(int(rotated * made.dim / 2)))
    cosine, sine = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    rows = np.empty((tokens, 2 * made.heads * made.dim), np.float32)
    assert dispatch.read_tokens(words, made, cosine, sine, rows) == 0
    expected = reference.read_tokens(words, made, cosine, sine)
    scale = np.abs(expected).max() + 1e-30
    assert np.abs(rows - expected).max() <= 1e-6 * scale
    back = np.full_like(words, 0xBEEF)
    assert dispatch.write_tokens(rows, made, cosine, sine, back) == 0
    for (_, _, one), (_, _, two) in zip(
        reference.tiles(words, made), reference.tiles(back, made), strict=True
    ):
        error = reference.to_float32(one, made.kind) - reference.to_float32(two, made.kind)
        assert np.abs(error).max() <= 0.01 * scale
    _gaps_untouched(made, back)


@pytest.mark.parametrize("kind", KINDS.values())
@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_holes_are_refused(kind: int, hole: float) -> None:
    made = pages(kind, SHAPES[0], transposed=True)
    words = memory(made, "normal")
    last = words[(made.blocks - 1) * made.stride :][made.words * 5000 :][: made.words]
    last[:] = np.array([hole], np.float16 if kind == KINDS["float16"] else np.float32).view(np.uint16)[
        -made.words :
    ]
    out = np.empty(1 << 20, np.uint8)
    tokens = made.blocks * made.tokens
    rows, nothing = (
        np.empty((tokens, 2 * made.heads * made.dim), np.float32),
        np.zeros((tokens, 0), np.float32),
    )
    assert dispatch.quantise(words, made, 8, 8, out) == -1
    assert dispatch.to_fp8(words, made, out) == -1
    assert dispatch.read_tokens(words, made, nothing, nothing, rows) == -1


@pytest.mark.parametrize("rounding", [0.5, 0.4])
def test_levels(rounding: float) -> None:
    rng = np.random.default_rng(0)
    coefficients = (rng.standard_normal((5, 33)) * 40).astype(np.float32)
    coefficients[0, :4] = [0, -0.0, 31_000.4, -31_000.6]
    levels = np.empty(coefficients.shape, np.int16)
    assert dispatch.to_levels(coefficients, rounding, levels) == 0
    assert np.array_equal(levels, reference.to_levels(coefficients, rounding))
    back = np.empty_like(coefficients)
    dispatch.from_levels(levels, -0.05, 0.1, back)
    assert np.array_equal(back, reference.from_levels(levels, -0.05, 0.1))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1e9])
def test_levels_beyond_sixteen_bits_are_refused(wrong: float) -> None:
    coefficients = np.zeros((2, 3), np.float32)
    coefficients[1, 2] = wrong
    assert dispatch.to_levels(coefficients, 0.5, np.empty((2, 3), np.int16)) == -1


def _gaps_untouched(made: Pages, words: np.ndarray) -> None:
    used = np.zeros(words.size, bool)
    for block in range(made.blocks):
        begin = block * made.stride
        used[begin : begin + made.words * 2 * made.heads * made.tile] = True
    assert (words[~used] == 0xBEEF).all()
