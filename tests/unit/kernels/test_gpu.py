"""Triton kernels against the CPU's, on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import os

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="GPU kernels take torch tensors")
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
pytest.importorskip("triton", reason="triton is not installed: pip install triton")

from kernels import dispatch, reference  # noqa: E402
from kernels.gpu import coefficients, rans, tokens, uniform  # noqa: E402
from kernels.pages import FLOAT32, Pages  # noqa: E402
from tests.unit.kernels.made_pages import KINDS, memory, pages  # noqa: E402
from tests.unit.kernels.test_rans import encoded, tables  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NaN and infinity on purpose

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPE = (2, 2, 16, 8)
CASES = [
    pytest.param(pages(kind, SHAPE, transposed), numbers, id=f"{name}-{transposed}-{numbers}")
    for name, kind in KINDS.items()
    for transposed in (False, True)
    for numbers in ("normal", "wide", "constant")
]


def on_device(array: np.ndarray) -> torch.Tensor:
    signed = {np.dtype(np.uint16): np.int16, np.dtype(np.uint32): np.int32}.get(array.dtype, array.dtype)
    return torch.from_numpy(array.view(signed).copy()).to(DEVICE)


def back(tensor: torch.Tensor, dtype: type[np.generic]) -> np.ndarray:
    return tensor.cpu().numpy().view(dtype)


@pytest.mark.parametrize(("made", "numbers"), CASES)
@pytest.mark.parametrize("bits", [(8, 4), (2, 8)])
def test_quantise_writes_the_same_bytes(made: Pages, numbers: str, bits: tuple[int, int]) -> None:
    words = memory(made, numbers)
    expected = np.zeros(made.blocks * made.heads * (sum(uniform._sizes(made, *bits))), np.uint8)
    dispatch.quantise(words, made, *bits, expected)
    out = torch.zeros(expected.size, dtype=torch.uint8, device=DEVICE)
    assert int(uniform.quantise(on_device(words), made, *bits, out)) == 0
    assert np.array_equal(back(out, np.uint8), expected)
    restored, target = np.zeros_like(words), on_device(np.zeros_like(words))
    dispatch.dequantise(expected, made, *bits, restored)
    uniform.dequantise(on_device(expected), made, *bits, target)
    assert np.array_equal(back(target, np.uint16), restored)


@pytest.mark.parametrize(("made", "numbers"), CASES)
@pytest.mark.parametrize("half", [0, 2, 4])
def test_tokens(made: Pages, numbers: str, half: int) -> None:
    words = memory(made, numbers)
    angles = np.outer(np.arange(made.blocks * made.tokens), 0.7 ** np.arange(half))
    cosine, sine = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    expected = reference.read_tokens(words, made, cosine, sine)
    rows = torch.empty(expected.shape, device=DEVICE)
    turns = on_device(cosine), on_device(sine)
    assert int(tokens.read_tokens(on_device(words), made, *turns, rows)) == 0
    scale = np.abs(expected).max()
    assert np.abs(rows.cpu().numpy() - expected).max() <= 1e-6 * scale
    target = on_device(np.zeros_like(words))
    assert int(tokens.write_tokens(rows, made, *turns, target)) == 0
    for (_, _, one), (_, _, two) in zip(
        reference.tiles(words, made), reference.tiles(back(target, np.uint16), made), strict=True
    ):
        error = reference.to_float32(one, made.kind) - reference.to_float32(two, made.kind)
        assert np.abs(error).max() <= 0.01 * scale


def test_holes_are_seen() -> None:
    made = pages(FLOAT32, SHAPE, transposed=True)
    words = memory(made, "normal")
    words.view(np.float32)[made.tile + 3] = np.nan
    nothing = torch.zeros((made.blocks * made.tokens, 0), device=DEVICE)
    rows = torch.empty((made.blocks * made.tokens, 2 * made.heads * made.dim), device=DEVICE)
    assert int(tokens.read_tokens(on_device(words), made, nothing, nothing, rows)) != 0
    out = torch.empty(1 << 16, dtype=torch.uint8, device=DEVICE)
    assert int(uniform.quantise(on_device(words), made, 8, 8, out)) != 0


def test_levels() -> None:
    numbers = (np.random.default_rng(0).standard_normal((3, 700)) * 5).astype(np.float32)
    levels = torch.empty(numbers.shape, dtype=torch.int16, device=DEVICE)
    assert int(coefficients.to_levels(on_device(numbers), 0.4, levels)) == 0
    assert np.array_equal(back(levels, np.int16), reference.to_levels(numbers, 0.4))
    restored = torch.empty(numbers.shape, device=DEVICE)
    coefficients.from_levels(levels, -0.05, 0.1, restored)
    assert np.array_equal(
        back(restored, np.float32), reference.from_levels(back(levels, np.int16), -0.05, 0.1)
    )
    numbers[1, 5] = np.inf
    assert int(coefficients.to_levels(on_device(numbers), 0.4, levels)) != 0


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (6, 16)])
@pytest.mark.parametrize("spread", [0.2, 4.0, 300.0])
def test_rans_streams_are_the_cpus(shape: tuple[int, int], spread: float) -> None:
    rng = np.random.default_rng(1)
    freqs = tables(rng, 4)
    rows = rng.integers(0, 4, shape[0]).astype(np.uint8)
    values = rng.laplace(0, spread, (3, *shape)).astype(np.int16)
    expected = [encoded(part, freqs, rows) for part in values]
    made = rans.encode(
        on_device(values),
        on_device(freqs.astype(np.int32)),
        on_device(dispatch.starts_of(freqs).astype(np.int32)),
        on_device(rows),
    )
    assert [back(one, np.uint8).tobytes() for one in made] == [one.tobytes() for one in expected]
    offsets = np.cumsum([0, *(one.size for one in expected)])
    slots = on_device(dispatch.slots_of(freqs))
    target = on_device(np.zeros_like(values))
    joined = np.concatenate(expected)
    assert (
        rans.decode(on_device(joined), on_device(offsets), slots, on_device(rows), target).tolist() == [0] * 3
    )
    assert np.array_equal(back(target, np.int16), values)


def test_damaged_streams_are_noticed() -> None:
    rng = np.random.default_rng(2)
    freqs = tables(rng, 4)
    rows = np.zeros(4, np.uint8)
    good = encoded(rng.laplace(0, 3, (4, 8)).astype(np.int16), freqs, rows)
    streams = [good, good[:-2], rng.integers(0, 256, 40).astype(np.uint8), good[:5]]
    offsets = np.cumsum([0, *(one.size for one in streams)])
    target = on_device(np.zeros((4, 4, 8), np.int16))
    status = rans.decode(
        on_device(np.concatenate(streams)),
        on_device(offsets),
        on_device(dispatch.slots_of(freqs)),
        on_device(rows),
        target,
    )
    assert status.tolist() == [0, -1, -1, -1]
