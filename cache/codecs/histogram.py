"""Frequencies for rANS from counts, and their bytes."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from cache.codecs.codec import CorruptPayload

SCALE = 4096
"""Sum of the frequencies of a table."""

Frequencies = npt.NDArray[np.uint16]
"""[256], sum SCALE; the first is the escape's and never zero."""


def frequencies(counts: npt.NDArray[np.int64 | np.float64]) -> Frequencies:
    """Frequencies nearest to counts [256] in code length: at least 1 where anything was counted.

    Symbol 0, the escape, always gets one; more symbols than SCALE / 2 are not possible.
    """
    weights = np.maximum(counts.astype(np.float64), 0)
    weights[0] = max(weights[0], weights.sum() * 1e-6, 1e-9)
    present = weights > 0
    shares = weights / weights.sum() * SCALE
    freq = np.where(present, np.maximum(np.round(shares), 1), 0).astype(np.int64)
    excess = int(freq.sum()) - SCALE
    while excess:
        # One more or one less where it changes the code length least.
        step = -1 if excess > 0 else 1
        allowed = present & (freq + step >= 1)
        price = np.where(
            allowed,
            -step * shares * np.log2((freq + step) / np.maximum(freq, 1), where=allowed, out=np.zeros(256)),
            np.inf,
        )
        order = np.argsort(price, kind="stable")[: min(abs(excess), max(1, int(allowed.sum()) // 4))]
        freq[order] += step
        excess += step * len(order)
    return freq.astype(np.uint16)


def pack(freq: Frequencies) -> bytes:
    """Bytes of a table: escape, first symbol, number of symbols, then their frequencies."""
    used = np.flatnonzero(freq[1:]) + 1
    first, last = (int(used[0]), int(used[-1])) if used.size else (1, 0)
    run = freq[first : last + 1].astype("<u2").tobytes()
    return struct.pack("<HBB", int(freq[0]), first, last - first + 1) + run


def unpack(data: memoryview | bytes, at: int) -> tuple[Frequencies, int]:
    """A table and where the bytes behind it begin; raises CorruptPayload."""
    freq = np.zeros(256, np.uint16)
    if at + 4 > len(data):
        raise CorruptPayload("a frequency table is cut")
    escape, first, number = struct.unpack_from("<HBB", data, at)
    end = at + 4 + 2 * number
    if first < 1 or first + number > 256 or end > len(data):
        raise CorruptPayload("a frequency table does not fit")
    freq[0] = escape
    freq[first : first + number] = np.frombuffer(data[at + 4 : end], "<u2")
    if escape < 1 or int(freq.astype(np.int64).sum()) != SCALE:
        raise CorruptPayload("the frequencies of a table do not add up")
    return freq, end
