"""Frequency tables and their bytes."""

from __future__ import annotations

import numpy as np
import pytest

from cache.codecs import histogram
from cache.codecs.codec import CorruptPayload
from kernels import dispatch


def _counts() -> np.ndarray:
    counts = np.zeros(256, np.int64)
    counts[100:140] = np.arange(40) ** 2
    return counts


def test_bytes_and_back() -> None:
    freq = dispatch.frequencies(_counts())
    data = b"xx" + histogram.pack(freq) + b"rest"
    again, at = histogram.unpack(data, 2)
    assert np.array_equal(again, freq)
    assert data[at:] == b"rest"


def test_only_the_escape() -> None:
    freq = dispatch.frequencies(np.zeros(256, np.int64))
    assert freq[0] == histogram.SCALE
    again, _ = histogram.unpack(histogram.pack(freq), 0)
    assert np.array_equal(again, freq)


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_cut_tables_are_noticed(cut: int) -> None:
    with pytest.raises(CorruptPayload):
        histogram.unpack(histogram.pack(dispatch.frequencies(_counts()))[:cut], 0)


def test_tables_that_do_not_add_up_are_noticed() -> None:
    data = bytearray(histogram.pack(dispatch.frequencies(_counts())))
    data[-1] ^= 1
    with pytest.raises(CorruptPayload, match="add up"):
        histogram.unpack(bytes(data), 0)


def test_code_length_is_near_the_entropy() -> None:
    counts = _counts()
    shares = counts / counts.sum()
    freq = dispatch.frequencies(counts)
    used = counts > 0
    entropy = -(shares[used] * np.log2(shares[used])).sum()
    length = -(shares[used] * np.log2(freq[used] / histogram.SCALE)).sum()
    assert entropy <= length < entropy + 0.02
