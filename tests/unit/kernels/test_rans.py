"""The entropy coder against the reference, its own inverse, and damage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels import dispatch, reference
from kernels.dispatch import frequencies


def tables(rng: np.random.Generator, number: int) -> NDArray[np.uint16]:
    """Frequency tables from almost certain to almost flat."""
    made = []
    for width in np.geomspace(0.05, 60, number):
        counts = np.exp(-np.abs(np.arange(-128, 128)) / width) * 1e6
        counts[0] = 0
        made.append(frequencies(counts.astype(np.int64)))
    return np.stack(made)


def encoded(
    values: NDArray[np.int16], freqs: NDArray[np.uint16], rows: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    out = np.empty(64 + 4 * values.size, np.uint8)
    return out[: dispatch.encode(values, freqs, dispatch.starts_of(freqs), rows, out)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (7, 4), (5, 33), (40, 64)])
@pytest.mark.parametrize("spread", [0.1, 3.0, 200.0, 1e4])
def test_equals_the_reference_and_comes_back(shape: tuple[int, int], spread: float) -> None:
    rng = np.random.default_rng(1)
    freqs = tables(rng, 6)
    rows = rng.integers(0, 6, shape[0]).astype(np.uint8)
    values = np.clip(rng.laplace(0, spread, shape), -32000, 32000).astype(np.int16)
    stream = encoded(values, freqs, rows)
    assert stream.tobytes() == reference.encode(values, freqs, rows)
    back = np.empty_like(values)
    assert dispatch.decode(stream, dispatch.slots_of(freqs), rows, back) == 0
    assert np.array_equal(back, values)


def test_close_to_the_entropy() -> None:
    rng = np.random.default_rng(2)
    freqs = tables(rng, 6)[3:4]
    shares = freqs[0] / 4096
    values = (rng.choice(256, (64, 512), p=shares) - 128).astype(np.int16)
    values[values == -128] = 0
    bits = 8 * encoded(values, freqs, np.zeros(64, np.uint8)).size / values.size
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
    assert bits < entropy * 1.01 + 0.02


def test_too_small_a_buffer_is_no_crash() -> None:
    rng = np.random.default_rng(3)
    freqs = tables(rng, 2)
    values = rng.integers(-100, 100, (8, 32)).astype(np.int16)
    rows = np.zeros(8, np.uint8)
    assert dispatch.encode(values, freqs, dispatch.starts_of(freqs), rows, np.empty(20, np.uint8)) == -1


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300), rows=st.integers(1, 9), n=st.integers(1, 40))
def test_any_bytes_are_refused_or_decoded_in_bounds(data: bytes, rows: int, n: int) -> None:
    freqs = tables(np.random.default_rng(4), 3)
    memory = np.full(rows * n + 64, 12345, np.int16)
    values = memory[32 : 32 + rows * n].reshape(rows, n)
    which = (np.arange(rows) % 3).astype(np.uint8)
    assert dispatch.decode(np.frombuffer(data, np.uint8), dispatch.slots_of(freqs), which, values) in (0, -1)
    assert (memory[:32] == 12345).all()
    assert (memory[32 + rows * n :] == 12345).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 10**7), min_size=256, max_size=256))
def test_frequencies_add_up(counts: list[int]) -> None:
    freq = frequencies(np.array(counts))
    assert int(freq.sum()) == 4096
    assert freq[0] >= 1
    assert ((freq > 0) | (np.array(counts) == 0)).all()
